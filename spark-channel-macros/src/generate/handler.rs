//! The handler, which matches on the message and calls the method.

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::Ident;

use super::{Context, is_unit};
use crate::{
    class::{Conflated, Source},
    hook::{self, Hook},
    message::{Kind, Message, Output},
    names::respanned,
};

pub(super) fn item(context: &Context<'_>) -> TokenStream {
    let module = context.module;
    let (krate, error, self_ty) = (&module.spark_channel, &module.error, &module.self_ty);
    let (message, response) = (&context.message, &context.response);
    let (parameters, _, clause) = module.generics.split_for_impl();
    let handler = if module.is_reader_writer {
        quote!(ReaderWriterHandler)
    } else {
        quote!(NativeHandler)
    };
    let requests = if module.is_reader_writer {
        reads_and_writes(context)
    } else {
        let answers = module
            .messages
            .iter()
            .map(|message| answer(context, message));
        quote! {
            async fn handle_request(
                &mut self,
                message: #message,
            ) -> ::core::result::Result<#response, #error> {
                match message { #(#answers),* }
            }
        }
    };
    // A command that is asked is answered when it is done, and a request that is only
    // sent loses its reply: there is no message the module cannot handle.
    let commands = module
        .messages
        .iter()
        .map(|message| command(context, message));
    let hooks = module.hooks.iter().map(|found| hook(context, found));
    let (classes, feeds) = (classes(context), feeds(context));
    let deprecated = context.allow_deprecated();
    quote! {
        #deprecated
        impl #parameters #krate::#handler for #self_ty #clause {
            type Message = #message;
            type Response = #response;
            type Error = #error;

            #requests

            async fn handle_command(
                &mut self,
                message: #message,
            ) -> ::core::result::Result<(), #error> {
                match message { #(#commands),* }
            }

            #(#hooks)*

            #classes

            #feeds
        }
    }
}

/// The function that sorts messages, if any has a class.
fn classes(context: &Context<'_>) -> Option<TokenStream> {
    let module = context.module;
    if module
        .messages
        .iter()
        .all(|message| message.class.is_none())
    {
        return None;
    }
    let (krate, message, messages) = (
        &module.spark_channel,
        &context.message,
        &module.names.message,
    );
    let arms = module.messages.iter().map(|message| {
        let (cfgs, variant, text) = (&message.cfgs, &message.variant, message.text());
        let Some(class) = &message.class else {
            return quote!(#(#cfgs)* #messages::#variant { .. } => #krate::Class::DEFAULT);
        };
        let source = match &class.source {
            Source::Constant(path) => quote!(#path),
            Source::Own {
                priority,
                capacity,
                overflow,
            } => {
                let priority = priority
                    .iter()
                    .map(|priority| quote!(.priority(#krate::Priority::#priority)));
                let capacity = capacity.iter().map(|capacity| quote!(.capacity(#capacity)));
                let overflow = overflow
                    .iter()
                    .map(|overflow| quote!(.overflow(#krate::Overflow::#overflow)));
                quote!(const {
                    #krate::Class::new(#text) #(#priority)* #(#capacity)* #(#overflow)*
                })
            }
        };
        // With the message's name: two kinds of messages may share a class.
        let (pattern, key) = match &class.conflated {
            None => (quote!({ .. }), None),
            Some(Conflated::All) => (quote!({ .. }), Some(quote!(.conflate(#text)))),
            Some(Conflated::By(field)) => (
                quote!({ #field, .. }),
                Some(quote!(.conflate(&(#text, #field)))),
            ),
        };
        quote!(#(#cfgs)* #messages::#variant #pattern => #source #key)
    });
    Some(quote! {
        fn classes() -> ::core::option::Option<fn(&#message) -> #krate::Class> {
            ::core::option::Option::Some(|message| match message { #(#arms),* })
        }
    })
}

/// The functions of a reader-writer handler that a native one does not have.
fn reads_and_writes(context: &Context<'_>) -> TokenStream {
    let module = context.module;
    let (krate, error, messages) = (&module.spark_channel, &module.error, &module.names.message);
    let (message, response) = (&context.message, &context.response);
    let is_read = |message: &Message| message.reads.is_some() && message.is_request();
    let access = module.messages.iter().map(|message| {
        let (cfgs, variant) = (&message.cfgs, &message.variant);
        let access = if is_read(message) {
            quote!(Read)
        } else {
            quote!(Write)
        };
        quote!(#(#cfgs)* #messages::#variant { .. } => #krate::Access::#access)
    });
    let reads = module.messages.iter().map(|message| {
        if is_read(message) {
            return answer(context, message);
        }
        let (cfgs, variant) = (&message.cfgs, &message.variant);
        quote! {
            #(#cfgs)*
            #messages::#variant { .. } => ::core::unreachable!("it is handled as a write")
        }
    });
    let writes = module
        .messages
        .iter()
        .map(|message| answer(context, message));
    quote! {
        fn access(message: &#message) -> #krate::Access {
            match *message { #(#access),* }
        }

        async fn handle_read(
            &self,
            message: #message,
        ) -> ::core::result::Result<#response, #error> {
            match message { #(#reads),* }
        }

        async fn handle_write(
            &mut self,
            message: #message,
        ) -> ::core::result::Result<#response, #error> {
            match message { #(#writes),* }
        }
    }
}

/// The arm that answers a message.
fn answer(context: &Context<'_>, message: &Message) -> TokenStream {
    let names = &context.module.names;
    let (messages, responses) = (&names.message, &names.response);
    let (cfgs, variant, fields) = (&message.cfgs, &message.variant, context.braced(message));
    let call = call(message);
    let answer = if is_unit(&message.reply) {
        quote!({ #call; ::core::result::Result::Ok(#responses::#variant) })
    } else {
        quote!({
            let reply = { #call };
            ::core::result::Result::Ok(#responses::#variant(reply))
        })
    };
    quote!(#(#cfgs)* #messages::#variant #fields => #answer)
}

/// The arm that acts on a message nobody waits for.
fn command(context: &Context<'_>, message: &Message) -> TokenStream {
    let messages = &context.module.names.message;
    let (cfgs, variant, fields) = (&message.cfgs, &message.variant, context.braced(message));
    let call = call(message);
    let done = if is_unit(&message.reply) {
        quote!(#call;)
    } else {
        quote!(let _ = { #call };)
    };
    quote!(#(#cfgs)* #messages::#variant #fields => {
        #done
        ::core::result::Result::Ok(())
    })
}

/// The method's reply, once it has succeeded.
fn call(message: &Message) -> TokenStream {
    let name = &message.name;
    let given = message.arguments.iter().map(|argument| {
        let field = &argument.field;
        quote!(#field)
    });
    let own = match &message.kind {
        Kind::Request | Kind::Command => None,
        Kind::Stream(items) => {
            let field = &items.field;
            let borrow = items.is_borrowed.then(|| quote!(&));
            Some(quote!(#borrow #field))
        }
        Kind::Every(timer) => timer.takes_tick.then(|| quote!(tick)),
    };
    let given = given.chain(own);
    let called = settled(
        quote!(Self::#name(self, #(#given),*).await),
        &message.output,
    );
    match &message.kind {
        Kind::Stream(items) if items.is_borrowed => {
            let sender = &items.field;
            quote!(#called; #sender.finish())
        }
        // Held until the method is done: then the next one may come.
        Kind::Every(timer) if !timer.takes_tick => quote!(#called; ::core::mem::drop(tick)),
        _ => called,
    }
}

/// What comes of a call, with a `?` that fails at the user's line.
fn settled(call: TokenStream, output: &Output) -> TokenStream {
    match output.span() {
        None => call,
        Some(span) => respanned(quote!(#call ?), span),
    }
}

fn hook(context: &Context<'_>, hook: &Hook) -> TokenStream {
    let (message, error) = (&context.message, &context.module.error);
    let (name, cfgs) = (&hook.name, &hook.cfgs);
    // A wrong type is one of the user's argument.
    let given = |given: &str| Ident::new(given, hook.argument.resolved_at(Span::call_site()));
    let (command, failure) = (given("command"), given("error"));
    let hook = match hook.kind {
        hook::Kind::Started => {
            let started = settled(quote!(Self::#name(self).await), &hook.output);
            quote! {
                async fn started(&mut self) -> ::core::result::Result<(), #error> {
                    #started;
                    ::core::result::Result::Ok(())
                }
            }
        }
        hook::Kind::Stopped => quote! {
            async fn stopped(&mut self) {
                Self::#name(self).await;
            }
        },
        hook::Kind::Undelivered => quote! {
            async fn undelivered(&mut self, #command: #message) {
                Self::#name(self, #command).await;
            }
        },
        hook::Kind::CommandFailed => quote! {
            fn command_failed(&mut self, #failure: #error) {
                Self::#name(self, #failure);
            }
        },
    };
    quote!(#(#cfgs)* #hook)
}

/// The timers, if there are any.
fn feeds(context: &Context<'_>) -> Option<TokenStream> {
    let module = context.module;
    let (krate, error, messages) = (&module.spark_channel, &module.error, &module.names.message);
    let (message, response) = (&context.message, &context.response);
    let timers: Vec<_> = module
        .messages
        .iter()
        .filter_map(|message| match &message.kind {
            Kind::Every(timer) => {
                let (cfgs, variant) = (&message.cfgs, &message.variant);
                let period = super::duration(timer.period);
                Some(quote! {
                    #(#cfgs)*
                    module.every(#period, |tick| #messages::#variant { tick })
                })
            }
            _ => None,
        })
        .collect();
    (!timers.is_empty()).then(|| {
        quote! {
            fn feeds<ModuleToken>(
                module: &#krate::WeakDispatcher<#message, #response, ModuleToken, #error>,
            ) -> ::std::vec::Vec<#krate::Attached>
            where
                ModuleToken: ::core::marker::Send + 'static,
            {
                ::std::vec::Vec::from([#(#timers),*])
            }
        }
    })
}

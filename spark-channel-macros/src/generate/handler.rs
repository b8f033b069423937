//! The handler, which matches on the message and calls the method.

use proc_macro2::TokenStream;
use quote::quote;
use syn::Ident;

use super::{Context, braced, is_unit};
use crate::{
    class::{Conflated, Source},
    message::{Hook, Kind, Message},
};

pub(super) fn item(context: &Context<'_>) -> TokenStream {
    let module = context.module;
    let (krate, error, self_ty) = (&module.spark_channel, &module.error, &module.self_ty);
    let (message, response) = (&context.message, &context.response);
    let (parameters, _, clause) = module.generics.split_for_impl();
    let messages = &module.names.message;
    let responses = &module.names.response;
    let requests = module.messages.iter().map(|message| {
        let (cfgs, variant, fields) = (&message.cfgs, &message.variant, braced(message));
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
    });
    // A command that is asked is answered when it is done, and a request that is only
    // sent loses its reply: there is no message the module cannot handle.
    let commands = module.messages.iter().map(|message| {
        let (cfgs, variant, fields) = (&message.cfgs, &message.variant, braced(message));
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
    });
    let hooks = module
        .hooks
        .iter()
        .map(|(kind, name)| hook(context, *kind, name));
    let classes = classes(context);
    quote! {
        impl #parameters #krate::NativeHandler for #self_ty #clause {
            type Message = #message;
            type Response = #response;
            type Error = #error;

            async fn handle_request(
                &mut self,
                message: #message,
            ) -> ::core::result::Result<#response, #error> {
                match message { #(#requests),* }
            }

            async fn handle_command(
                &mut self,
                message: #message,
            ) -> ::core::result::Result<(), #error> {
                match message { #(#commands),* }
            }

            #(#hooks)*

            #classes
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

/// The method's reply, once it has succeeded.
fn call(message: &Message) -> TokenStream {
    let name = &message.name;
    let arguments = message.arguments.iter().map(|argument| &argument.field);
    let fails = message.is_fallible.then(|| quote!(?));
    match &message.kind {
        Kind::Request | Kind::Command => {
            quote!(Self::#name(self, #(#arguments),*).await #fails)
        }
        Kind::Stream(items) => {
            let sender = &items.field;
            if items.is_borrowed {
                quote! {
                    Self::#name(self, #(#arguments,)* &#sender).await #fails;
                    #sender.finish()
                }
            } else {
                quote!(Self::#name(self, #(#arguments,)* #sender).await #fails)
            }
        }
    }
}

fn hook(context: &Context<'_>, kind: Hook, name: &Ident) -> TokenStream {
    let (message, error) = (&context.message, &context.module.error);
    match kind {
        Hook::Started => quote! {
            async fn started(&mut self) -> ::core::result::Result<(), #error> {
                Self::#name(self).await?;
                ::core::result::Result::Ok(())
            }
        },
        Hook::Stopped => quote! {
            async fn stopped(&mut self) {
                Self::#name(self).await;
            }
        },
        Hook::Undelivered => quote! {
            async fn undelivered(&mut self, command: #message) {
                Self::#name(self, command).await;
            }
        },
        Hook::CommandFailed => quote! {
            fn command_failed(&mut self, error: #error) {
                Self::#name(self, error);
            }
        },
    }
}

//! The mock: the client's trait with programmed answers, and a record of the calls.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::Ident;

use super::{Context, client};
use crate::{
    message::{Argument, Kind, Message},
    names::derived,
};

pub(super) fn items(context: &Context<'_>) -> TokenStream {
    let module = context.module;
    let Some(name) = &module.names.mock else {
        return TokenStream::new();
    };
    let (krate, vis, api) = (&module.spark_channel, &module.vis, &module.names.api);
    let generics = &context.client_generics;
    let (parameters, arguments, clause) = generics.split_for_impl();
    let fields = module.messages.iter().map(|message| {
        let (cfgs, name) = (&message.cfgs, &message.name);
        let (given, answer) = (given(message), answer(context, message));
        quote!(#(#cfgs)* #name: #krate::__private::MockedMethod<#given, #answer>)
    });
    let fresh = module.messages.iter().map(|message| {
        let (cfgs, name, text) = (&message.cfgs, &message.name, message.text());
        quote!(#(#cfgs)* #name: #krate::__private::MockedMethod::new(#text))
    });
    let cloned = module.messages.iter().map(|message| {
        let (cfgs, name) = (&message.cfgs, &message.name);
        quote!(#(#cfgs)* #name: ::core::clone::Clone::clone(&self.#name))
    });
    let programs = module
        .messages
        .iter()
        .map(|message| program(context, message));
    let methods = module
        .messages
        .iter()
        .map(|message| method(context, message));
    let doc = format!(
        " Stands in for a `{}` in tests: each method answers as it was told with `on_..`.",
        module.names.client
    );
    let api_doc = format!(" Implements `{api}`. Clones share their answers and their calls.");
    let text = name.to_string();
    quote! {
        #[doc = #doc]
        #[doc = ""]
        #[doc = #api_doc]
        #vis struct #name #generics #clause { #(#fields),* }

        impl #parameters #name #arguments #clause {
            /// A mock without answers: a request to it panics until it has one, a command
            /// is accepted.
            #[must_use]
            #vis fn new() -> Self {
                Self { #(#fresh),* }
            }

            #(#programs)*
        }

        impl #parameters #api #arguments for #name #arguments #clause {
            #(#methods)*
        }

        impl #parameters ::core::default::Default for #name #arguments #clause {
            fn default() -> Self {
                Self::new()
            }
        }

        impl #parameters ::core::clone::Clone for #name #arguments #clause {
            fn clone(&self) -> Self {
                Self { #(#cloned),* }
            }
        }

        impl #parameters ::core::fmt::Debug for #name #arguments #clause {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                f.debug_struct(#text).finish_non_exhaustive()
            }
        }
    }
}

/// `on_count` and `count_calls`.
fn program(context: &Context<'_>, message: &Message) -> TokenStream {
    let (vis, cfgs, name) = (&context.module.vis, &message.cfgs, &message.name);
    let on = derived(name, &format_ident!("on_{}", name).to_string());
    let calls = derived(name, &format_ident!("{}_calls", name).to_string());
    let (given, pattern, answer) = (given(message), pattern(message), answer(context, message));
    let types = message.arguments.iter().map(|argument| &argument.ty);
    let names = message.arguments.iter().map(|argument| &argument.field);
    let text = message.text();
    let on_doc = format!(" Answers `{text}` with what `answer` returns, from now on.");
    let calls_doc = format!(" The arguments `{text}` was called with, in order.");
    quote! {
        #(#cfgs)*
        #[doc = #on_doc]
        #vis fn #on(
            &self,
            mut answer: impl ::core::ops::FnMut(#(#types),*) -> #answer
                + ::core::marker::Send
                + 'static,
        ) -> &Self {
            self.#name.program(move |#pattern: #given| answer(#(#names),*));
            self
        }

        #(#cfgs)*
        #[doc = #calls_doc]
        #[must_use]
        #vis fn #calls(&self) -> ::std::vec::Vec<#given> {
            self.#name.calls()
        }
    }
}

fn method(context: &Context<'_>, message: &Message) -> TokenStream {
    let (krate, messages) = (&context.module.spark_channel, &context.module.names.message);
    let (cfgs, name, variant) = (&message.cfgs, &message.name, &message.variant);
    let parameters = client::parameters(message);
    let (pattern, output) = (pattern(message), client::output(context, message));
    match &message.kind {
        Kind::Stream(_) => quote! {
            #(#cfgs)*
            fn #name(&self, #(#parameters),*) -> #output {
                self.#name.call(#pattern)
            }
        },
        Kind::Request => quote! {
            #(#cfgs)*
            async fn #name(&self, #(#parameters),*) -> #output {
                self.#name.call(#pattern)
            }
        },
        Kind::Command => {
            let names: Vec<&Ident> = message.arguments.iter().map(|a| &a.field).collect();
            let fields = (!names.is_empty())
                .then(|| quote!({ #(#names: ::core::clone::Clone::clone(&#names)),* }));
            quote! {
                #(#cfgs)*
                async fn #name(&self, #(#parameters),*) -> #output {
                    let message = #messages::#variant #fields;
                    match self.#name.call_or(#pattern, ::core::result::Result::Ok(())) {
                        ::core::result::Result::Ok(()) => ::core::result::Result::Ok(()),
                        ::core::result::Result::Err(reason) => {
                            ::core::result::Result::Err(#krate::Refused { message, reason })
                        }
                    }
                }
            }
        }
    }
}

/// What a programmed answer is: a command's needs no message to give back.
fn answer(context: &Context<'_>, message: &Message) -> TokenStream {
    let krate = &context.module.spark_channel;
    match message.kind {
        Kind::Command => quote!(::core::result::Result<(), #krate::SparkChannelError>),
        Kind::Request | Kind::Stream(_) => client::output(context, message),
    }
}

/// The type of the arguments together: of one its own, of others a tuple.
fn given(message: &Message) -> TokenStream {
    match message.arguments.as_slice() {
        [Argument { ty, .. }] => quote!(#ty),
        arguments => {
            let types = arguments.iter().map(|argument| &argument.ty);
            quote!((#(#types),*))
        }
    }
}

/// The arguments together.
fn pattern(message: &Message) -> TokenStream {
    match message.arguments.as_slice() {
        [Argument { field, .. }] => quote!(#field),
        arguments => {
            let names = arguments.iter().map(|argument| &argument.field);
            quote!((#(#names),*))
        }
    }
}

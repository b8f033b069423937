//! The mock: the client's trait with programmed answers, and a record of the calls.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{Ident, Index, spanned::Spanned};

use super::{Context, client};
use crate::{
    message::{Argument, Kind, Message},
    names::{derived, internal, respanned},
};

pub(super) fn items(context: &Context<'_>) -> TokenStream {
    let module = context.module;
    let Some(name) = &module.names.mock else {
        return TokenStream::new();
    };
    let (krate, vis, api) = (&module.spark_channel, &module.vis, &module.names.api);
    let generics = &context.client_generics;
    let (parameters, arguments, clause) = generics.split_for_impl();
    let fields = client::public(context).map(|message| {
        let (cfgs, name) = (&message.cfgs, &message.name);
        let (given, answer) = (given(message), answer(context, message));
        quote!(#(#cfgs)* #name: #krate::__private::MockedMethod<#given, #answer>)
    });
    let fresh = client::public(context).map(|message| {
        let (cfgs, name, text) = (&message.cfgs, &message.name, message.text());
        quote!(#(#cfgs)* #name: #krate::__private::MockedMethod::new(#text))
    });
    let cloned = client::public(context).map(|message| {
        let (cfgs, name) = (&message.cfgs, &message.name);
        quote!(#(#cfgs)* #name: ::core::clone::Clone::clone(&self.#name))
    });
    let programs = client::public(context).map(|message| program(context, message));
    let methods = client::public(context).map(|message| method(context, message));
    let (deprecated, unused) = (context.allow_deprecated(), context.allow_unused());
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
        #unused
        #vis struct #name #generics #clause { #(#fields),* }

        #unused
        impl #parameters #name #arguments #clause {
            /// A mock without answers: a request to it panics until it has one, a command
            /// is accepted.
            #[must_use]
            #vis fn new() -> Self {
                Self { #(#fresh),* }
            }

            #(#programs)*
        }

        #deprecated
        #[allow(
            refining_impl_trait,
            reason = "of a reply like `dyn Fn(&str)` it takes each lifetime for another one"
        )]
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
    let (given, answer) = (given(message), answer(context, message));
    let types = message.arguments.iter().map(|argument| &argument.ty);
    let (program, all) = (internal("answer"), internal("given"));
    let (spread, copy) = match message.arguments.as_slice() {
        [argument] => (quote!(#all), record(context, argument, quote!(#all))),
        arguments => {
            let parts = (0..arguments.len()).map(Index::from);
            let copies = arguments.iter().zip(parts.clone());
            let copies =
                copies.map(|(argument, part)| record(context, argument, quote!(&#all.#part)));
            (quote!(#(#all.#parts),*), quote!((#(#copies),*)))
        }
    };
    let text = message.text();
    let on_doc = format!(" Answers `{text}` with what `answer` returns, from now on.");
    let calls_doc = format!(" The arguments `{text}` was called with, in order.");
    quote! {
        #(#cfgs)*
        #[doc = #on_doc]
        #vis fn #on(
            &self,
            mut #program: impl ::core::ops::FnMut(#(#types),*) -> #answer
                + ::core::marker::Send
                + 'static,
        ) -> &Self {
            self.#name.program(move |#all: #given| #program(#spread));
            self
        }

        #(#cfgs)*
        #[doc = #calls_doc]
        #[must_use]
        #vis fn #calls(&self) -> ::std::vec::Vec<#given> {
            self.#name.calls(|#all: &#given| #copy)
        }
    }
}

fn method(context: &Context<'_>, message: &Message) -> TokenStream {
    let (krate, messages) = (&context.module.spark_channel, &context.module.names.message);
    let (cfgs, name, variant) = (&message.cfgs, &message.name, &message.variant);
    let parameters = client::parameters(message);
    let (given, output) = (together(message), client::output(context, message));
    let copies = message.arguments.iter().map(|argument| {
        let field = &argument.field;
        record(context, argument, quote!(&#field))
    });
    let copies: Vec<_> = copies.collect();
    let copy = match copies.as_slice() {
        [copy] => copy.clone(),
        copies => quote!((#(#copies),*)),
    };
    match &message.kind {
        Kind::Stream(_) => quote! {
            #(#cfgs)*
            fn #name(&self, #(#parameters),*) -> #output {
                self.#name.call(#copy, #given)
            }
        },
        Kind::Request => quote! {
            #(#cfgs)*
            async fn #name(&self, #(#parameters),*) -> #output {
                self.#name.call(#copy, #given)
            }
        },
        Kind::Command | Kind::Every(_) => {
            let names: Vec<&Ident> = message.arguments.iter().map(|a| &a.field).collect();
            let fields = (!names.is_empty()).then(|| quote!({ #(#names),* }));
            let (answered, reason) = (internal("answered"), internal("reason"));
            quote! {
                #(#cfgs)*
                async fn #name(&self, #(#parameters),*) -> #output {
                    let #answered = self.#name.call_or(
                        #copy,
                        #copy,
                        ::core::result::Result::Ok(()),
                    );
                    match #answered {
                        ::core::result::Result::Ok(()) => ::core::result::Result::Ok(()),
                        ::core::result::Result::Err(#reason) => {
                            ::core::result::Result::Err(#krate::Refused {
                                message: #messages::#variant #fields,
                                reason: #reason,
                            })
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
        Kind::Command | Kind::Every(_) => {
            quote!(::core::result::Result<(), #krate::SparkChannelError>)
        }
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
fn together(message: &Message) -> TokenStream {
    match message.arguments.as_slice() {
        [Argument { field, .. }] => quote!(#field),
        arguments => {
            let names = arguments.iter().map(|argument| &argument.field);
            quote!((#(#names),*))
        }
    }
}

/// A copy of what `from` borrows; where there is none, the compiler says so at the
/// argument's type.
fn record(context: &Context<'_>, argument: &Argument, from: TokenStream) -> TokenStream {
    let krate = &context.module.spark_channel;
    let from = respanned(from, argument.ty.span());
    quote!(#krate::__private::record(#from))
}

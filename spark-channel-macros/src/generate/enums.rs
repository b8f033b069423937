//! The message and the response enum.

use proc_macro2::TokenStream;
use quote::quote;
use syn::Generics;

use super::{Context, docs, is_unit};
use crate::message::Kind;

pub(super) fn items(context: &Context<'_>) -> TokenStream {
    let message = message(context);
    let response = response(context);
    quote!(#message #response)
}

fn message(context: &Context<'_>) -> TokenStream {
    let (open, messages) = (context.open(), &context.module.messages);
    let (name, generics) = (&context.module.names.message, &context.message_generics);
    let variants = messages.iter().map(|message| {
        let (docs, cfgs, variant) = (docs(message), &message.cfgs, &message.variant);
        let fields: Vec<_> = message
            .fields(&context.module.spark_channel)
            .into_iter()
            .map(|(field, ty)| {
                let doc = match message.kind {
                    Kind::Every(_) => " Holds back the next one.".to_owned(),
                    _ => format!(" The argument `{field}`."),
                };
                quote!(#[doc = #doc] #field: #ty)
            })
            .collect();
        let fields = (!fields.is_empty()).then(|| quote!({ #(#fields),* }));
        quote!(#(#cfgs)* #docs #variant #fields)
    });
    let doc = format!(" What a `{}` is sent.", context.module.names.handler);
    let patterns = messages.iter().map(|message| {
        let variant = &message.variant;
        quote!(#variant { .. })
    });
    let derive = &context.module.derive;
    let derives_debug = derive.iter().any(|path| {
        path.segments
            .last()
            .is_some_and(|last| last.ident == "Debug")
    });
    let about = about(context, name, generics, patterns, !derives_debug);
    let clause = &generics.where_clause;
    let derive = (!derive.is_empty()).then(|| quote!(#[derive(#(#derive),*)]));
    quote! {
        #[doc = #doc]
        #open
        #derive
        pub enum #name #generics #clause { #(#variants),* }
        #about
    }
}

fn response(context: &Context<'_>) -> TokenStream {
    let (open, messages) = (context.open(), &context.module.messages);
    let (name, generics) = (&context.module.names.response, &context.response_generics);
    let variants = messages.iter().map(|message| {
        let (cfgs, variant, reply) = (&message.cfgs, &message.variant, &message.reply);
        let doc = format!(" The reply to `{}`.", message.text());
        let reply = (!is_unit(reply)).then(|| quote!((#reply)));
        quote!(#(#cfgs)* #[doc = #doc] #variant #reply)
    });
    let doc = format!(" What a `{}` answers with.", context.module.names.handler);
    let patterns = messages.iter().map(|message| {
        let variant = &message.variant;
        quote!(#variant { .. })
    });
    let about = about(context, name, generics, patterns, true);
    let clause = &generics.where_clause;
    quote! {
        #[doc = #doc]
        #open
        pub enum #name #generics #clause { #(#variants),* }
        #about
    }
}

/// The name of a value, also as its `Debug`: what it carries may have none.
fn about(
    context: &Context<'_>,
    name: &syn::Ident,
    generics: &Generics,
    patterns: impl Iterator<Item = TokenStream>,
    is_debug: bool,
) -> TokenStream {
    let open = context.open();
    let (parameters, arguments, clause) = generics.split_for_impl();
    let arms = context
        .module
        .messages
        .iter()
        .zip(patterns)
        .map(|(message, pattern)| {
            let (cfgs, text) = (&message.cfgs, message.text());
            quote!(#(#cfgs)* Self::#pattern => #text)
        });
    let debug = is_debug.then(|| {
        quote! {
            impl #parameters ::core::fmt::Debug for #name #arguments #clause {
                fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                    f.write_str(self.name())
                }
            }
        }
    });
    // `*self`: there may be no variant, if each has its condition.
    quote! {
        #open
        impl #parameters #name #arguments #clause {
            /// The name of the method it belongs to.
            #[must_use]
            pub const fn name(&self) -> &'static str {
                match *self { #(#arms),* }
            }
        }

        #debug
    }
}

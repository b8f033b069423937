//! What the compiler would say about the items, said about the user's lines first.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::Type;

use super::Context;
use crate::{
    message::{Kind, Message},
    names::respanned,
};

/// A function that nobody calls and that is checked all the same.
pub(super) fn item(context: &Context<'_>) -> TokenStream {
    let module = context.module;
    let (krate, self_ty, error) = (&module.spark_channel, &module.self_ty, &module.error);
    let (parameters, _, clause) = module.generics.split_for_impl();
    // Of a type parameter the compiler knows better what to do.
    let (is_module, is_shared) = if module.generics.params.is_empty() {
        (quote!(is_module), quote!(is_shared))
    } else {
        (quote!(is_send), quote!(is_sync))
    };
    let shared = module
        .messages
        .iter()
        .find_map(|message| Some((message.reads?, &message.cfgs)))
        .map(|(span, cfgs)| {
            let self_ty = respanned(self_ty.to_token_stream(), span);
            quote!(#(#cfgs)* #krate::__private::#is_shared::<#self_ty>();)
        });
    let is_error = (!context.speaks_of_parameters(error))
        .then(|| quote!(#krate::__private::is_error::<#error>();));
    let messages = module
        .messages
        .iter()
        .map(|message| of_message(context, message));
    quote! {
        const _: () = {
            #[allow(
                dead_code,
                clippy::extra_unused_type_parameters,
                clippy::missing_const_for_fn,
                clippy::too_many_lines,
                reason = "only its types are looked at"
            )]
            fn check #parameters () #clause {
                #krate::__private::#is_module::<#self_ty>();
                #is_error
                #shared
                #(#messages)*
            }
        };
    }
}

fn of_message(context: &Context<'_>, message: &Message) -> TokenStream {
    let krate = &context.module.spark_channel;
    let item: Option<&Type> = match &message.kind {
        Kind::Stream(items) => Some(&items.item),
        Kind::Request | Kind::Command | Kind::Every(_) => None,
    };
    let arguments = message.arguments.iter().map(|argument| &argument.ty);
    let travelling = arguments.chain([&message.reply]).chain(item).map(|ty| {
        if context.speaks_of_parameters(ty) {
            quote!(is_send::<#ty>)
        } else {
            quote!(travels::<#ty>)
        }
    });
    let cfgs = &message.cfgs;
    quote! {
        #(#cfgs)*
        {
            #(#krate::__private::#travelling();)*
        }
    }
}

//! The client, and the trait of its methods.

use proc_macro2::TokenStream;
use quote::quote;

use super::{Context, braced, docs, errors_section, is_unit};
use crate::message::{Argument, Kind, Message};

pub(super) fn items(context: &Context<'_>) -> TokenStream {
    let client = client(context);
    let api = api(context);
    quote!(#client #api)
}

fn client(context: &Context<'_>) -> TokenStream {
    let module = context.module;
    let (vis, name, dispatcher) = (&module.vis, &module.names.client, &context.dispatcher);
    let generics = &context.client_generics;
    let (parameters, arguments, clause) = generics.split_for_impl();
    let methods = module
        .messages
        .iter()
        .map(|message| method(context, message));
    let doc = format!(
        " A dispatcher for `{}`, with a method for each message.",
        module.names.handler
    );
    let name_text = name.to_string();
    quote! {
        #[doc = #doc]
        #[doc = ""]
        #[doc = " Made `From` a dispatcher; cheap to clone. Arguments travel in the message."]
        #vis struct #name #generics #clause {
            dispatcher: #dispatcher,
        }

        impl #parameters #name #arguments #clause {
            #(#methods)*

            /// The dispatcher itself, to send messages as such.
            #[must_use]
            #vis const fn dispatcher(&self) -> &#dispatcher {
                &self.dispatcher
            }
        }

        impl #parameters ::core::convert::From<#dispatcher> for #name #arguments #clause {
            fn from(dispatcher: #dispatcher) -> Self {
                Self { dispatcher }
            }
        }

        impl #parameters ::core::clone::Clone for #name #arguments #clause {
            fn clone(&self) -> Self {
                Self { dispatcher: ::core::clone::Clone::clone(&self.dispatcher) }
            }
        }

        impl #parameters ::core::fmt::Debug for #name #arguments #clause {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                f.debug_struct(#name_text)
                    .field("dispatcher", &self.dispatcher)
                    .finish()
            }
        }
    }
}

fn method(context: &Context<'_>, message: &Message) -> TokenStream {
    let module = context.module;
    let (krate, vis, error) = (&module.spark_channel, &module.vis, &module.error);
    let (messages, responses) = (&module.names.message, &module.names.response);
    let (name, variant, fields) = (&message.name, &message.variant, braced(message));
    let (docs, section, cfgs) = (docs(message), errors_section(message), &message.cfgs);
    let parameters = parameters(message);
    let timeout = timeout(message);
    let (message_ty, response_ty, reply) = (&context.message, &context.response, &message.reply);
    match &message.kind {
        Kind::Command => quote! {
            #(#cfgs)*
            #docs
            #section
            #vis async fn #name(
                &self, #(#parameters),*
            ) -> ::core::result::Result<(), #krate::Refused<#message_ty>> {
                self.dispatcher.command(#messages::#variant #fields).await
            }
        },
        Kind::Request => {
            let text = message.text();
            let matched = if is_unit(reply) {
                quote!(#responses::#variant => ::core::result::Result::Ok(()))
            } else {
                quote!(#responses::#variant(reply) => ::core::result::Result::Ok(reply))
            };
            // With a single variant there is no other.
            let other = (module.messages.len() > 1).then(|| {
                quote! {
                    other => ::core::result::Result::Err(
                        #krate::SparkChannelError::unexpected_response(#text, other.name()),
                    )
                }
            });
            quote! {
                #(#cfgs)*
                #docs
                #section
                #vis fn #name(&self, #(#parameters),*) -> #krate::TypedRequest<
                    '_,
                    #reply,
                    #message_ty,
                    #response_ty,
                    #krate::SparkChannelCancellationToken,
                    #error,
                > {
                    self.dispatcher
                        .request(#messages::#variant #fields)
                        .typed(|response| match response { #matched, #other })
                        #timeout
                }
            }
        }
        Kind::Stream(items) => {
            let (item, sender) = (&items.item, &items.field);
            let message = quote!(move |#sender| #messages::#variant #fields);
            let ask = match &items.buffer {
                None => quote!(request_stream(#message)),
                Some(buffer) => quote! {
                    request_stream_buffered(
                        const { ::core::num::NonZeroUsize::new(#buffer).expect("not zero") },
                        #message,
                    )
                },
            };
            quote! {
                #(#cfgs)*
                #docs
                #section
                #vis fn #name(&self, #(#parameters),*) -> #krate::ReplyStream<#item, #error> {
                    self.dispatcher
                        .#ask
                        #timeout
                }
            }
        }
    }
}

fn api(context: &Context<'_>) -> TokenStream {
    let module = context.module;
    let (vis, name, client) = (&module.vis, &module.names.api, &module.names.client);
    let generics = &context.client_generics;
    let (parameters, arguments, clause) = generics.split_for_impl();
    let declared = module.messages.iter().map(|message| {
        let (docs, section, cfgs) = (docs(message), errors_section(message), &message.cfgs);
        let signature = signature(context, message);
        quote!(#(#cfgs)* #docs #section #signature;)
    });
    let delegated = module.messages.iter().map(|message| {
        let (name, cfgs) = (&message.name, &message.cfgs);
        let signature = signature(context, message);
        let given = message.arguments.iter().map(|argument| &argument.field);
        quote!(#(#cfgs)* #signature { #client::#name(self, #(#given),*) })
    });
    let doc = format!(
        " What one can ask of a `{}`: implemented by `{client}`, and by what stands in for it in tests.",
        module.names.handler
    );
    quote! {
        #[doc = #doc]
        #vis trait #name #generics: ::core::marker::Send + ::core::marker::Sync #clause {
            #(#declared)*
        }

        impl #parameters #name #arguments for #client #arguments #clause {
            #(#delegated)*
        }
    }
}

/// A method of the trait, without its body.
pub(super) fn signature(context: &Context<'_>, message: &Message) -> TokenStream {
    let module = context.module;
    let (krate, error) = (&module.spark_channel, &module.error);
    let (name, parameters) = (&message.name, parameters(message));
    let output = output(context, message);
    match &message.kind {
        Kind::Stream(items) => {
            let item = &items.item;
            quote!(fn #name(&self, #(#parameters),*) -> #krate::ReplyStream<#item, #error>)
        }
        Kind::Request | Kind::Command => quote! {
            fn #name(
                &self, #(#parameters),*
            ) -> impl ::core::future::Future<Output = #output> + ::core::marker::Send
        },
    }
}

/// What a method of the trait resolves to; for a stream, what it is.
pub(super) fn output(context: &Context<'_>, message: &Message) -> TokenStream {
    let module = context.module;
    let (krate, error, reply) = (&module.spark_channel, &module.error, &message.reply);
    let message_ty = &context.message;
    match &message.kind {
        Kind::Request => quote!(::core::result::Result<#reply, #error>),
        Kind::Command => quote!(::core::result::Result<(), #krate::Refused<#message_ty>>),
        Kind::Stream(items) => {
            let item = &items.item;
            quote!(#krate::ReplyStream<#item, #error>)
        }
    }
}

pub(super) fn parameters(message: &Message) -> impl Iterator<Item = TokenStream> {
    message
        .arguments
        .iter()
        .map(|Argument { field, ty }| quote!(#field: #ty))
}

fn timeout(message: &Message) -> Option<TokenStream> {
    message.timeout.map(|timeout| {
        let (seconds, nanos) = (timeout.as_secs(), timeout.subsec_nanos());
        quote!(.timeout(::core::time::Duration::new(#seconds, #nanos)))
    })
}

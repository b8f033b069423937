//! The client, and the trait of its methods.

use proc_macro2::TokenStream;
use quote::quote;

use super::{Context, docs, duration, errors_section, is_unit};
use crate::{
    message::{Argument, Items, Kind, Message},
    names::internal,
};

pub(super) fn items(context: &Context<'_>) -> TokenStream {
    let client = client(context);
    let projections = projections(context);
    let api = api(context);
    quote!(#client #projections #api)
}

fn client(context: &Context<'_>) -> TokenStream {
    let module = context.module;
    let (vis, name, dispatcher) = (&module.vis, &module.names.client, &context.dispatcher);
    let generics = &context.client_generics;
    let (parameters, arguments, clause) = generics.split_for_impl();
    let methods = public(context).map(|message| method(context, message));
    let doc = format!(
        " A dispatcher for `{}`, with a method for each message.",
        module.names.handler
    );
    let (name_text, unused) = (name.to_string(), context.allow_unused());
    quote! {
        #[doc = #doc]
        #[doc = ""]
        #[doc = " Made `From` a dispatcher; cheap to clone. Arguments travel in the message."]
        #unused
        #vis struct #name #generics #clause {
            dispatcher: #dispatcher,
        }

        #unused
        impl #parameters #name #arguments #clause {
            #(#methods)*

            /// The dispatcher itself, to send messages as such.
            #[inline]
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

/// The messages that somebody may send.
pub(super) fn public<'a>(context: &Context<'a>) -> impl Iterator<Item = &'a Message> {
    let messages = context.module.messages.iter();
    messages.filter(|message| message.is_public())
}

fn method(context: &Context<'_>, message: &Message) -> TokenStream {
    let head = head(message);
    let body = match &message.kind {
        Kind::Command | Kind::Every(_) => send(context, message),
        Kind::Request => request(context, message),
        Kind::Stream(items) => stream(context, message, items),
    };
    quote!(#head #[inline] #body)
}

/// What stands above a method.
fn head(message: &Message) -> TokenStream {
    let (docs, section) = (docs(message), errors_section(message));
    let (cfgs, deprecated) = (&message.cfgs, &message.deprecated);
    quote!(#(#cfgs)* #docs #section #deprecated)
}

fn send(context: &Context<'_>, message: &Message) -> TokenStream {
    let module = context.module;
    let (krate, vis, messages) = (&module.spark_channel, &module.vis, &module.names.message);
    let (name, variant, fields) = (&message.name, &message.variant, context.braced(message));
    let (parameters, message_ty) = (parameters(message), &context.message);
    quote! {
        #vis fn #name(
            &self, #(#parameters),*
        ) -> impl ::core::future::Future<
            Output = ::core::result::Result<(), #krate::Refused<#message_ty>>
        > + ::core::marker::Send + '_ {
            self.dispatcher.command(#messages::#variant #fields)
        }
    }
}

fn request(context: &Context<'_>, message: &Message) -> TokenStream {
    let module = context.module;
    let (krate, vis, error) = (&module.spark_channel, &module.vis, &module.error);
    let (messages, projection) = (&module.names.message, projection(context, message));
    let (name, variant, fields) = (&message.name, &message.variant, context.braced(message));
    let (message_ty, response_ty, reply) = (&context.message, &context.response, &message.reply);
    let (parameters, timeout) = (parameters(message), timeout(message));
    let replies = &module.names.replies;
    quote! {
        #vis fn #name(&self, #(#parameters),*) -> #krate::TypedRequest<
            '_,
            #reply,
            #message_ty,
            #response_ty,
            #krate::SparkChannelCancellationToken,
            #error,
            #projection,
        > {
            self.dispatcher
                .request(#messages::#variant #fields)
                .projected(#replies)
                #timeout
        }
    }
}

/// The type that says which reply is a message's.
fn projection(context: &Context<'_>, message: &Message) -> TokenStream {
    let variants = context.module.messages.iter();
    let index = variants
        .map(|other| &other.variant)
        .position(|other| *other == message.variant);
    let replies = &context.module.names.replies;
    quote!(#replies<#index>)
}

/// How replies are taken out of responses: one type, whose parameter says of which message.
fn projections(context: &Context<'_>) -> TokenStream {
    let module = context.module;
    let (vis, name) = (&module.vis, &module.names.replies);
    let requests = module.messages.iter();
    let requests = requests.filter(|message| matches!(message.kind, Kind::Request));
    let impls: Vec<_> = requests.map(|message| project(context, message)).collect();
    if impls.is_empty() {
        return TokenStream::new();
    }
    let unused = context.allow_unused();
    quote! {
        #[doc = " How a reply is taken out of a response."]
        #[doc(hidden)]
        #unused
        #[derive(::core::clone::Clone, ::core::marker::Copy, ::core::fmt::Debug)]
        #vis struct #name<const MESSAGE: usize>;

        #(#impls)*
    }
}

fn project(context: &Context<'_>, message: &Message) -> TokenStream {
    let module = context.module;
    let (krate, responses) = (&module.spark_channel, &module.names.response);
    let (variant, cfgs, text) = (&message.variant, &message.cfgs, message.text());
    let (response_ty, reply) = (&context.response, &message.reply);
    let (parameters, _, clause) = context.response_generics.split_for_impl();
    let projection = projection(context, message);
    let (answer, other) = (internal("answer"), internal("other"));
    let matched = if is_unit(reply) {
        quote!(#responses::#variant => ::core::result::Result::Ok(()))
    } else {
        quote!(#responses::#variant(#answer) => ::core::result::Result::Ok(#answer))
    };
    // With a single variant there is no other.
    let others = module.messages.iter();
    let others = others.filter(|other| other.variant != *variant);
    let is_certain = others.clone().any(|other| other.cfgs.is_empty());
    let unexpected = (others.count() > 0).then(|| {
        let allowed = (!is_certain).then(
            || quote!(#[allow(unreachable_patterns, reason = "the others may not be there")]),
        );
        quote! {
            #allowed
            #other => ::core::result::Result::Err(
                #krate::SparkChannelError::unexpected_response(#text, #other.name()),
            )
        }
    });
    quote! {
        #(#cfgs)*
        impl #parameters #krate::Projection<#response_ty> for #projection #clause {
            type Reply = #reply;

            #[inline]
            fn project(
                &self,
                response: #response_ty,
            ) -> ::core::result::Result<#reply, #krate::SparkChannelError> {
                match response { #matched, #unexpected }
            }
        }
    }
}

fn stream(context: &Context<'_>, message: &Message, items: &Items) -> TokenStream {
    let module = context.module;
    let (krate, vis, error) = (&module.spark_channel, &module.vis, &module.error);
    let (messages, variant) = (&module.names.message, &message.variant);
    let (name, parameters, timeout) = (&message.name, parameters(message), timeout(message));
    let (item, sender) = (&items.item, &items.field);
    let fields = context.braced(message);
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
        #vis fn #name(&self, #(#parameters),*) -> #krate::ReplyStream<#item, #error> {
            self.dispatcher
                .#ask
                #timeout
        }
    }
}

fn api(context: &Context<'_>) -> TokenStream {
    let module = context.module;
    let (vis, name, client) = (&module.vis, &module.names.api, &module.names.client);
    let generics = &context.client_generics;
    let (parameters, arguments, clause) = generics.split_for_impl();
    let declared = public(context).map(|message| {
        let (head, signature) = (head(message), signature(context, message));
        quote!(#head #signature;)
    });
    let delegated = public(context).map(|message| {
        let (name, cfgs) = (&message.name, &message.cfgs);
        let signature = signature(context, message);
        let given = message.arguments.iter().map(|argument| &argument.field);
        quote!(#(#cfgs)* #signature { #client::#name(self, #(#given),*) })
    });
    let (deprecated, unused) = (context.allow_deprecated(), context.allow_unused());
    let doc = format!(
        " What one can ask of a `{}`: implemented by `{client}`, and by what stands in for it in tests.",
        module.names.handler
    );
    quote! {
        #[doc = #doc]
        #unused
        #vis trait #name #generics: ::core::marker::Send + ::core::marker::Sync #clause {
            #(#declared)*
        }

        #deprecated
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
        Kind::Request | Kind::Command | Kind::Every(_) => quote! {
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
        Kind::Command | Kind::Every(_) => {
            quote!(::core::result::Result<(), #krate::Refused<#message_ty>>)
        }
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
        let timeout = duration(timeout);
        quote!(.timeout(#timeout))
    })
}

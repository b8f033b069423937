//! What is wrong with a method that is to be a message.

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::ToTokens;
use syn::{
    Attribute, GenericArgument, Ident, PathArguments, ReceiverKind, Safety, Signature, Type,
    spanned::Spanned,
};

use crate::module::Errors;

pub(super) fn signature(signature: &Signature, word: &str) -> syn::Result<()> {
    let mut errors = Errors::default();
    let name = &signature.ident;
    if signature.asyncness.is_none() {
        let text = format!("a {word} is handled by an `async fn`: write `async fn {name}`");
        errors.add(syn::Error::new(signature.fn_token.span, text));
    }
    if let Safety::Unsafe(found) = &signature.safety {
        let text = "nobody could uphold what an `unsafe fn` asks for: a message is handled by a \
            safe one";
        errors.add(syn::Error::new_spanned(found, text));
    }
    let receiver = "a message is handled by a method: its first argument is `&self` or `&mut self`";
    match signature.receiver() {
        None => errors.add(syn::Error::new(name.span(), receiver)),
        Some(found) if !matches!(found.kind, ReceiverKind::Reference(..)) => {
            errors.add(syn::Error::new_spanned(found, receiver));
        }
        Some(_) => {}
    }
    if !signature.generics.params.is_empty() {
        let text = "a message is one variant of an enum: its method has no type parameters of its \
            own; put them on the impl block";
        errors.add(syn::Error::new_spanned(&signature.generics.params, text));
    } else if let Some(clause) = &signature.generics.where_clause {
        let text = "what a message's method asks of the module's types, the impl block asks";
        errors.add(syn::Error::new_spanned(clause, text));
    }
    if ["dispatcher", "new"]
        .iter()
        .any(|reserved| name == reserved)
    {
        let text =
            format!("the client has a method `{name}` already: give the message another name");
        errors.add(syn::Error::new(name.span(), text));
    }
    errors.into_result()
}

/// Where a method says `&self`.
pub(super) fn shared_receiver(signature: &Signature) -> Option<Span> {
    let receiver = signature.receiver()?;
    match &receiver.kind {
        ReceiverKind::Reference(_, _, mutability) if mutability.is_none() => {
            Some(receiver.self_token.span())
        }
        _ => None,
    }
}

/// A field cannot come and go with its argument: the method's callers could not know.
pub(super) fn always_there(attributes: &[Attribute]) -> syn::Result<()> {
    let found = attributes
        .iter()
        .find(|attribute| attribute.path().is_ident("cfg"));
    found.map_or(Ok(()), |found| {
        let text = "an argument is part of its message: put the `cfg` on the method, and write two";
        Err(syn::Error::new_spanned(found, text))
    })
}

pub(super) fn reply(reply: &Type, word: &str, is_stream: bool) -> syn::Result<()> {
    if let Some(opaque) = find(reply.to_token_stream(), "impl") {
        let text = "a reply is stored in an enum: name its type";
        return Err(match reply {
            Type::ImplTrait(whole) => syn::Error::new_spanned(whole, text),
            _ => syn::Error::new(opaque.span(), text),
        });
    }
    no_self(reply)?;
    owned(reply)?;
    let is_unit = matches!(reply, Type::Tuple(tuple) if tuple.elems.is_empty());
    let text = match (word, is_stream) {
        ("command", _) => {
            "nobody waits for the reply to a command: return nothing or `Result<(), E>`, or make it a \
             `#[request]`"
        }
        ("timer", _) => "nobody waits for the reply to a timer: return nothing or `Result<(), E>`",
        (_, true) => {
            "a streaming request sends its reply item by item: return nothing or `Result<(), E>`"
        }
        _ => return Ok(()),
    };
    if is_unit {
        Ok(())
    } else {
        Err(syn::Error::new_spanned(reply, text))
    }
}

/// Whether a value of this type can travel: it borrows nothing but what lives for ever.
pub(super) fn owned(ty: &Type) -> syn::Result<()> {
    match ty {
        Type::Reference(reference) => {
            if reference
                .lifetime
                .as_ref()
                .is_some_and(|life| life.ident == "static")
            {
                return Ok(());
            }
            let text = "a message owns what it carries: take `String` for `&str`, `Vec<T>` for `&[T]`, or \
                an `Arc`";
            Err(syn::Error::new_spanned(ty, text))
        }
        Type::ImplTrait(_) => {
            let text = "a message is one variant of an enum: name the argument's type, make it a type \
                parameter of the impl block, or a `Box<dyn ..>`";
            Err(syn::Error::new_spanned(ty, text))
        }
        Type::Tuple(tuple) => tuple.elems.iter().try_for_each(owned),
        Type::Array(array) => owned(&array.elem),
        Type::Slice(slice) => owned(&slice.elem),
        Type::Paren(paren) => owned(&paren.elem),
        Type::Group(group) => owned(&group.elem),
        Type::Path(path) => path
            .path
            .segments
            .iter()
            .try_for_each(|segment| owned_arguments(&segment.arguments)),
        _ => Ok(()),
    }
}

fn owned_arguments(arguments: &PathArguments) -> syn::Result<()> {
    let PathArguments::AngleBracketed(arguments) = arguments else {
        return Ok(());
    };
    arguments
        .args
        .iter()
        .try_for_each(|argument| match argument {
            GenericArgument::Type(ty) => owned(ty),
            GenericArgument::Lifetime(life) if life.ident != "static" => {
                let text = "a message owns what it carries: it has no lifetime but `'static`";
                Err(syn::Error::new_spanned(life, text))
            }
            _ => Ok(()),
        })
}

pub(crate) fn no_self(ty: &Type) -> syn::Result<()> {
    match find(ty.to_token_stream(), "Self") {
        None => Ok(()),
        Some(ident) => Err(syn::Error::new(
            ident.span(),
            "this type goes into other items, where `Self` is another one: write the name",
        )),
    }
}

/// The first `word` of a type.
fn find(tokens: TokenStream, word: &str) -> Option<Ident> {
    tokens.into_iter().find_map(|token| match token {
        TokenTree::Ident(ident) if ident == word => Some(ident),
        TokenTree::Group(group) => find(group.stream(), word),
        _ => None,
    })
}

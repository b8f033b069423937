//! How what is defined gets its names.

use proc_macro2::{Group, Span, TokenStream, TokenTree};
use syn::{Ident, ext::IdentExt};

/// A name for an item that the macro defines because of `origin`: errors point at the
/// user's line, and lints know that it was not written there.
pub(crate) fn derived(origin: &Ident, name: &str) -> Ident {
    Ident::new(name, origin.span().resolved_at(Span::call_site()))
}

/// A name inside of a function that the macro writes: no argument of the user's is in its
/// way.
pub(crate) fn internal(name: &str) -> Ident {
    Ident::new(name, Span::mixed_site())
}

/// `get_data` → `GetData`.
pub(crate) fn camel_case(name: &Ident) -> Ident {
    let camel: String = name
        .unraw()
        .to_string()
        .split('_')
        .map(|word| {
            let mut letters = word.chars();
            let first = letters.next().map(char::to_uppercase);
            first
                .into_iter()
                .flatten()
                .chain(letters)
                .collect::<String>()
        })
        .collect();
    match camel.as_str() {
        // The one word in this case that is no name.
        "Self" => derived(name, "Self_"),
        camel if syn::parse_str::<Ident>(camel).is_ok() => derived(name, camel),
        // `_2nd`, which is a name because of its underscore.
        _ => derived(name, &name.unraw().to_string()),
    }
}

/// The name of a message's field for an argument: without the underscores of an unused one.
pub(crate) fn field(argument: &Ident) -> Ident {
    let name = argument.to_string();
    let bare = name.trim_start_matches('_');
    if bare.len() < name.len() && syn::parse_str::<Ident>(bare).is_ok() {
        return derived(argument, bare);
    }
    let mut field = argument.clone();
    field.set_span(argument.span().resolved_at(Span::call_site()));
    field
}

/// The same tokens at another place.
pub(crate) fn respanned(tokens: TokenStream, span: Span) -> TokenStream {
    let respan = |token| match token {
        TokenTree::Group(group) => {
            let inside = respanned(group.stream(), span);
            let mut group = Group::new(group.delimiter(), inside);
            group.set_span(span);
            TokenTree::Group(group)
        }
        mut token => {
            let span = span.resolved_at(token.span());
            token.set_span(span);
            token
        }
    };
    tokens.into_iter().map(respan).collect()
}

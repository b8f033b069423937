//! How what is defined gets its names.

use proc_macro2::Span;
use syn::{Ident, ext::IdentExt};

/// A name for an item that the macro defines because of `origin`: errors point at the
/// user's line, and lints know that it was not written there.
pub(crate) fn derived(origin: &Ident, name: &str) -> Ident {
    Ident::new(name, origin.span().resolved_at(Span::call_site()))
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
    // `Self` is the one word in this case that is no name.
    match camel.as_str() {
        "Self" => derived(name, "Self_"),
        camel => derived(name, camel),
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

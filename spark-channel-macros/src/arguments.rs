//! What stands in the brackets of `#[module(..)]`.

use proc_macro2::Span;
use syn::{
    Ident, Path, Token, Type, Visibility,
    ext::IdentExt,
    parenthesized,
    parse::{Parse, ParseStream},
};

/// The arguments of `#[module(..)]`; all of them are optional.
#[derive(Default)]
pub(crate) struct Arguments {
    pub(crate) vis: Option<Visibility>,
    pub(crate) spark_channel: Option<Path>,
    pub(crate) error: Option<Type>,
    pub(crate) message: Option<Ident>,
    pub(crate) response: Option<Ident>,
    pub(crate) client: Option<Ident>,
    pub(crate) api: Option<Ident>,
    pub(crate) mock: Option<Mock>,
    pub(crate) derive: Option<Vec<Path>>,
    /// Where it says `reader_writer`.
    pub(crate) reader_writer: Option<Span>,
}

/// Whether and how the mock is named.
pub(crate) enum Mock {
    ByDefault,
    Named(Ident),
}

// === impl Arguments ===

impl Arguments {
    fn read(&mut self, name: &Ident, input: ParseStream<'_>) -> syn::Result<()> {
        match name.to_string().as_str() {
            "crate" => set(&mut self.spark_channel, name, value(input)?),
            "error" => set(&mut self.error, name, value(input)?),
            "message" => set(&mut self.message, name, value(input)?),
            "response" => set(&mut self.response, name, value(input)?),
            "client" => set(&mut self.client, name, value(input)?),
            "api" => set(&mut self.api, name, value(input)?),
            "mock" if input.peek(Token![=]) => {
                set(&mut self.mock, name, Mock::Named(value(input)?))
            }
            "mock" => set(&mut self.mock, name, Mock::ByDefault),
            "derive" => {
                let content;
                parenthesized!(content in input);
                let traits = content.parse_terminated(Path::parse_mod_style, Token![,])?;
                set(&mut self.derive, name, traits.into_iter().collect())
            }
            "reader_writer" => set(&mut self.reader_writer, name, name.span()),
            other => Err(syn::Error::new(
                name.span(),
                format!(
                    "unknown argument `{other}`: `module` knows a visibility, `error = Type`, `mock`, \
                     `reader_writer`, `derive(..)` for the messages, the names `message`, `response`, \
                     `client`, `api` and `mock = Name`, and `crate = path`"
                ),
            )),
        }
    }
}

impl Parse for Arguments {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let mut arguments = Self::default();
        if input.peek(Token![pub]) {
            arguments.vis = Some(match input.parse()? {
                Visibility::Restricted(vis) if vis.path.is_ident("self") => Visibility::Inherited,
                vis => vis,
            });
            comma(input)?;
        }
        while !input.is_empty() {
            let name = input.call(Ident::parse_any)?;
            arguments.read(&name, input)?;
            comma(input)?;
        }
        Ok(arguments)
    }
}

fn comma(input: ParseStream<'_>) -> syn::Result<()> {
    if !input.is_empty() {
        input.parse::<Token![,]>()?;
    }
    Ok(())
}

fn value<T: Parse>(input: ParseStream<'_>) -> syn::Result<T> {
    input.parse::<Token![=]>()?;
    input.parse()
}

/// Sets what has not been set yet.
pub(crate) fn set<T>(place: &mut Option<T>, name: &Ident, value: T) -> syn::Result<()> {
    if place.replace(value).is_some() {
        return Err(syn::Error::new(
            name.span(),
            format!("`{name}` is given twice"),
        ));
    }
    Ok(())
}

//! What stands in the brackets of `#[request(..)]`, `#[command]` and `#[every(..)]`.

use std::time::Duration;

use proc_macro2::TokenStream;
use syn::{
    Attribute, Lit, LitInt, Meta, Token,
    meta::{self, ParseNestedMeta},
    parse::{ParseStream, Parser},
};

use crate::{arguments::set, class, duration};

/// The attributes that make a method a message.
pub(super) const NAMES: [&str; 3] = ["request", "command", "every"];

/// What the attribute says.
#[derive(Default)]
pub(super) struct Settings {
    pub(super) is_request: bool,
    pub(super) is_stream: bool,
    pub(super) timeout: Option<Duration>,
    pub(super) buffer: Option<LitInt>,
    /// Only of `#[every]`, and always there.
    pub(super) period: Option<Duration>,
    pub(super) class: class::Settings,
}

/// What a message with this attribute is called in a sentence.
pub(super) fn word(attribute: &Attribute) -> &'static str {
    let path = attribute.path();
    if path.is_ident("request") {
        "request"
    } else if path.is_ident("command") {
        "command"
    } else {
        "timer"
    }
}

// === impl Settings ===

impl Settings {
    pub(super) fn read(attribute: &Attribute) -> syn::Result<Self> {
        match word(attribute) {
            "request" => Self::of_request(attribute),
            "command" => Self::of_command(attribute),
            _ => Self::of_timer(attribute),
        }
    }

    fn of_request(attribute: &Attribute) -> syn::Result<Self> {
        let mut settings = Self {
            is_request: true,
            ..Self::default()
        };
        if matches!(attribute.meta, Meta::Path(_)) {
            return Ok(settings);
        }
        attribute.parse_nested_meta(|meta| settings.set(&meta))?;
        if let (Some(buffer), false) = (&settings.buffer, settings.is_stream) {
            let text = "`buffer` is for streamed replies: `#[request(stream, buffer = ..)]`";
            return Err(syn::Error::new_spanned(buffer, text));
        }
        Ok(settings)
    }

    fn set(&mut self, meta: &ParseNestedMeta<'_>) -> syn::Result<()> {
        let name = meta.path.require_ident()?.clone();
        if self.class.read("request", meta)? {
            return Ok(());
        }
        match name.to_string().as_str() {
            "stream" => self.is_stream = true,
            "timeout" => {
                let literal: Lit = meta.value()?.parse()?;
                set(&mut self.timeout, &name, duration::read(&literal)?)?;
            }
            "buffer" => {
                let literal: LitInt = meta.value()?.parse()?;
                if literal.base10_parse::<usize>()? == 0 {
                    let text = "a buffer holds one item at least";
                    return Err(syn::Error::new_spanned(literal, text));
                }
                set(&mut self.buffer, &name, literal)?;
            }
            other => {
                return Err(meta.error(format!(
                    "unknown setting `{other}`: a request knows `stream`, `timeout = \"2s\"`, \
                     `buffer = 64` (with `stream`), {OF_CLASSES}"
                )));
            }
        }
        Ok(())
    }

    fn of_command(attribute: &Attribute) -> syn::Result<Self> {
        let mut settings = Self::default();
        if !matches!(attribute.meta, Meta::Path(_)) {
            attribute.parse_nested_meta(|meta| settings.set_of_command("command", &meta))?;
        }
        Ok(settings)
    }

    fn set_of_command(&mut self, word: &str, meta: &ParseNestedMeta<'_>) -> syn::Result<()> {
        if self.class.read("command", meta)? {
            return Ok(());
        }
        let other = meta.path.require_ident()?;
        Err(meta.error(format!(
            "unknown setting `{other}`: a {word} knows {OF_CLASSES}, `conflate`"
        )))
    }

    /// `"30s"`, and what a command knows.
    fn of_timer(attribute: &Attribute) -> syn::Result<Self> {
        let missing = || duration::missing(attribute, "#[every(\"30s\")]");
        let (period, rest) = attribute
            .parse_args_with(|input: ParseStream<'_>| {
                let period: Lit = input.parse()?;
                if !input.is_empty() {
                    input.parse::<Token![,]>()?;
                }
                Ok((period, input.parse::<TokenStream>()?))
            })
            .map_err(|_| missing())?;
        let mut settings = Self {
            period: Some(duration::read(&period)?),
            ..Self::default()
        };
        meta::parser(|meta| settings.set_of_command("timer", &meta)).parse2(rest)?;
        Ok(settings)
    }
}

const OF_CLASSES: &str =
    "`priority = \"high\"`, `capacity = 8`, `overflow = \"drop_oldest\"`, `class = HALT`";

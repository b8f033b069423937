//! A method that the module calls without a message.

use proc_macro2::Span;
use syn::{Attribute, FnArg, Ident, ImplItemFn, spanned::Spanned};

use crate::{
    message::{Output, allowances},
    module::{cfgs, take_attributes},
};

/// A hook's method.
pub(crate) struct Hook {
    pub(crate) kind: Kind,
    pub(crate) name: Ident,
    pub(crate) output: Output,
    /// Where its argument is, if it has one.
    pub(crate) argument: Span,
    pub(crate) cfgs: Vec<Attribute>,
}

/// Which hook it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Started,
    Stopped,
    Undelivered,
    CommandFailed,
}

// === impl Kind ===

impl Kind {
    const ALL: [Self; 4] = [
        Self::Started,
        Self::Stopped,
        Self::Undelivered,
        Self::CommandFailed,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Stopped => "stopped",
            Self::Undelivered => "undelivered",
            Self::CommandFailed => "command_failed",
        }
    }

    /// Arguments beside `self`.
    const fn arguments(self) -> usize {
        match self {
            Self::Started | Self::Stopped => 0,
            Self::Undelivered | Self::CommandFailed => 1,
        }
    }

    /// What a method of this kind looks like.
    fn shape(self, method: &Ident) -> String {
        let name = self.name();
        match self {
            Self::Started => {
                format!(
                    "`#[{name}]` is an `async fn {method}(&mut self)` that returns nothing or \
                     `Result<(), E>`"
                )
            }
            Self::Stopped => format!("`#[{name}]` is an `async fn {method}(&mut self)`"),
            Self::Undelivered => {
                format!("`#[{name}]` is an `async fn {method}(&mut self, message: ..Message)`")
            }
            Self::CommandFailed => {
                format!("`#[{name}]` is a `fn {method}(&mut self, error: Error)`")
            }
        }
    }
}

/// Reads a method that is a hook; `None` for any other. Takes its attribute off.
pub(crate) fn read(method: &mut ImplItemFn) -> syn::Result<Option<Hook>> {
    let names = Kind::ALL.map(Kind::name);
    let attributes = take_attributes(&mut method.attrs, &names);
    let attribute = match attributes.as_slice() {
        [] => return Ok(None),
        [one] => one,
        [_, second, ..] => {
            let text = "a method is one hook";
            return Err(syn::Error::new_spanned(second, text));
        }
    };
    attribute.meta.require_path_only()?;
    let kind = Kind::ALL
        .into_iter()
        .find(|kind| attribute.path().is_ident(kind.name()))
        .expect("one of these names was looked for");
    let signature = &method.sig;
    let is_method = matches!(signature.inputs.first(), Some(FnArg::Receiver(receiver))
        if matches!(receiver.kind, syn::ReceiverKind::Reference(..)));
    let is_async = kind != Kind::CommandFailed;
    let (reply, output) = Output::read(&signature.output);
    let is_unit = matches!(reply, syn::Type::Tuple(tuple) if tuple.elems.is_empty());
    if !is_method
        || signature.asyncness.is_some() != is_async
        || (output.is_fallible() && kind != Kind::Started)
        || !is_unit
        || signature.inputs.len() != kind.arguments() + 1
    {
        return Err(syn::Error::new(
            signature.ident.span(),
            kind.shape(&signature.ident),
        ));
    }
    let cfgs = cfgs(&method.attrs);
    // In front, so that what the user says about a lint has the last word.
    method.attrs.insert(0, allowances());
    Ok(Some(Hook {
        kind,
        name: method.sig.ident.clone(),
        output,
        argument: method
            .sig
            .inputs
            .last()
            .map_or_else(Span::call_site, Spanned::span),
        cfgs,
    }))
}

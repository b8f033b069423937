//! One method of the block: what message it is, if it is one.

mod check;
mod settings;

use std::time::Duration;

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote};
use syn::{
    Attribute, FnArg, Ident, ImplItemFn, LitInt, Pat, Path, PathSegment, ReturnType, Signature,
    Type, Visibility, ext::IdentExt, parse_quote, spanned::Spanned,
};

pub(crate) use self::check::no_self;
use self::settings::Settings;
use crate::{
    class::Class,
    module::{Errors, allowed, cfgs, result, take_attributes, type_arguments},
    names::{camel_case, field},
};

/// A method that is a message.
pub(crate) struct Message {
    pub(crate) kind: Kind,
    pub(crate) name: Ident,
    pub(crate) variant: Ident,
    pub(crate) vis: Visibility,
    /// Where the method says `&self`; absent from one of `&mut self`.
    pub(crate) reads: Option<Span>,
    pub(crate) arguments: Vec<Argument>,
    /// What the method returns when all is well.
    pub(crate) reply: Type,
    pub(crate) output: Output,
    pub(crate) docs: Vec<Attribute>,
    pub(crate) deprecated: Option<Attribute>,
    pub(crate) cfgs: Vec<Attribute>,
    /// The lints that the method is spared.
    pub(crate) allowed: Vec<Path>,
    pub(crate) timeout: Option<Duration>,
    /// The class it is sorted into, if it says so.
    pub(crate) class: Option<Class>,
}

pub(crate) enum Kind {
    Request,
    /// A request whose reply is sent item by item.
    Stream(Box<Items>),
    Command,
    /// A command that a timer sends, and nobody else.
    Every(Timer),
}

/// The last argument of a streaming request.
pub(crate) struct Items {
    pub(crate) field: Ident,
    /// `ReplyStreamSender<T, E>`.
    pub(crate) sender: Type,
    pub(crate) item: Type,
    pub(crate) is_borrowed: bool,
    pub(crate) buffer: Option<LitInt>,
}

/// When the timer of a method sends its message.
pub(crate) struct Timer {
    pub(crate) period: Duration,
    /// Whether the method takes the tick.
    pub(crate) takes_tick: bool,
}

pub(crate) struct Argument {
    pub(crate) field: Ident,
    pub(crate) ty: Type,
}

/// How a method ends.
pub(crate) enum Output {
    Infallible,
    Fallible(Box<Fallible>),
}

/// A `Result`.
pub(crate) struct Fallible {
    /// As it is written.
    pub(crate) result: Type,
    /// Its error, if that is written too.
    pub(crate) error: Option<Type>,
}

// === impl Message ===

impl Message {
    /// The method's name, for people.
    pub(crate) fn text(&self) -> String {
        self.name.unraw().to_string()
    }

    /// Whether the client has a method for it.
    pub(crate) const fn is_public(&self) -> bool {
        !matches!(self.kind, Kind::Every(_))
    }

    /// Whether it is sent to be answered.
    pub(crate) const fn is_request(&self) -> bool {
        matches!(self.kind, Kind::Request | Kind::Stream(_))
    }

    /// What its variant carries.
    pub(crate) fn fields(&self, spark_channel: &Path) -> Vec<(Ident, TokenStream)> {
        let arguments = self.arguments.iter();
        let arguments =
            arguments.map(|argument| (argument.field.clone(), argument.ty.to_token_stream()));
        let own = match &self.kind {
            Kind::Stream(items) => Some((items.field.clone(), items.sender.to_token_stream())),
            Kind::Every(_) => {
                let tick = Ident::new("tick", Span::call_site());
                Some((tick, quote!(#spark_channel::Tick)))
            }
            Kind::Request | Kind::Command => None,
        };
        arguments.chain(own).collect()
    }
}

// === impl Output ===

impl Output {
    /// The reply, and how it comes.
    pub(crate) fn read(output: &ReturnType) -> (Type, Self) {
        match output {
            ReturnType::Default => (parse_quote!(()), Self::Infallible),
            ReturnType::Type(_, ty) => match result(ty) {
                Some((reply, error)) => {
                    let (result, error) = ((**ty).clone(), error.cloned());
                    let fallible = Box::new(Fallible { result, error });
                    (reply.clone(), Self::Fallible(fallible))
                }
                None => ((**ty).clone(), Self::Infallible),
            },
        }
    }

    pub(crate) const fn is_fallible(&self) -> bool {
        matches!(self, Self::Fallible(_))
    }

    /// Where a conversion of its error fails.
    pub(crate) fn span(&self) -> Option<Span> {
        match self {
            Self::Infallible => None,
            Self::Fallible(fallible) => Some(match &fallible.error {
                Some(error) => error.span(),
                None => fallible.result.span(),
            }),
        }
    }
}

/// Reads a method that is a message; `None` for any other. Takes its attributes off.
pub(crate) fn read(method: &mut ImplItemFn) -> syn::Result<Option<Message>> {
    let attributes = take_attributes(&mut method.attrs, &settings::NAMES);
    let attribute = match attributes.as_slice() {
        [] => return Ok(None),
        [one] => one,
        [_, second, ..] => {
            let text =
                "a method is one message: either `#[request]`, `#[command]` or `#[every]`, once";
            return Err(syn::Error::new_spanned(second, text));
        }
    };
    let mut errors = Errors::default();
    let settings = errors.keep(Settings::read(attribute));
    let word = settings::word(attribute);
    errors.keep(check::signature(&method.sig, word));
    let Some(settings) = settings else {
        return errors.into_result().map(|()| None);
    };
    let mut arguments = read_arguments(&method.sig, &mut errors);
    let kind = errors.keep(read_kind(&method.sig, &mut arguments, &settings));
    for argument in &arguments {
        errors.keep(check::owned(&argument.ty));
        errors.keep(no_self(&argument.ty));
        if sender(&argument.ty).is_some() {
            errors.add(syn::Error::new_spanned(
                &argument.ty,
                "a method that sends its reply item by item is a `#[request(stream)]`, with the sender \
                 as its last argument",
            ));
        }
    }
    let class = settings
        .class
        .class(&method.sig.ident, &arguments, &mut errors);
    let (reply, output) = Output::read(&method.sig.output);
    errors.keep(check::reply(&reply, word, settings.is_stream));
    errors.into_result()?;
    let Some(kind) = kind else {
        unreachable!("a message without a kind is an error");
    };
    let allowed = allowed(&method.attrs).collect();
    // In front, so that what the user says about a lint has the last word.
    method.attrs.insert(0, allowances());
    let with_name = |name: &str| -> Vec<Attribute> {
        let named = |attribute: &&Attribute| attribute.path().is_ident(name);
        method.attrs.iter().filter(named).cloned().collect()
    };
    Ok(Some(Message {
        kind,
        variant: camel_case(&method.sig.ident),
        name: method.sig.ident.clone(),
        vis: method.vis.clone(),
        reads: check::shared_receiver(&method.sig),
        arguments,
        reply,
        output,
        docs: with_name("doc"),
        deprecated: with_name("deprecated").pop(),
        cfgs: cfgs(&method.attrs),
        allowed,
        timeout: settings.timeout,
        class,
    }))
}

/// For what the shape of such a method demands, and pedants would have otherwise.
pub(crate) fn allowances() -> Attribute {
    parse_quote! {
        #[allow(
            clippy::needless_pass_by_ref_mut,
            clippy::needless_pass_by_value,
            clippy::unused_async,
            clippy::unused_self,
            reason = "a module's method is async, has a receiver, and owns its arguments"
        )]
    }
}

fn read_arguments(signature: &Signature, errors: &mut Errors) -> Vec<Argument> {
    let typed = signature.inputs.iter().filter_map(|input| match input {
        FnArg::Typed(typed) => Some(typed),
        FnArg::Receiver(_) => None,
    });
    let mut arguments = Vec::new();
    for argument in typed {
        errors.keep(check::always_there(&argument.attrs));
        match &*argument.pat {
            Pat::Ident(name) if name.by_ref.is_none() && name.subpat.is_none() => {
                arguments.push(Argument {
                    field: field(&name.ident),
                    ty: (*argument.ty).clone(),
                });
            }
            pattern => errors.add(syn::Error::new_spanned(
                pattern,
                "an argument becomes a field of the message: give it a name, and take it apart in the \
                 method",
            )),
        }
    }
    arguments
}

/// Takes the argument that is not the caller's off, if the message has one.
fn read_kind(
    signature: &Signature,
    arguments: &mut Vec<Argument>,
    settings: &Settings,
) -> syn::Result<Kind> {
    Ok(match settings {
        Settings {
            is_stream: true, ..
        } => Kind::Stream(Box::new(read_items(
            signature,
            arguments.pop(),
            settings.buffer.clone(),
        )?)),
        Settings {
            period: Some(period),
            ..
        } => Kind::Every(Timer {
            period: *period,
            takes_tick: takes_tick(arguments)?,
        }),
        Settings {
            is_request: true, ..
        } => Kind::Request,
        Settings { .. } => Kind::Command,
    })
}

/// Takes the last argument for the sender of a streaming request.
fn read_items(
    signature: &Signature,
    last: Option<Argument>,
    buffer: Option<LitInt>,
) -> syn::Result<Items> {
    let wanted = "a streaming request sends its items to its last argument, \
        `items: &ReplyStreamSender<T, E>`";
    let Some(last) = last else {
        return Err(syn::Error::new(signature.ident.span(), wanted));
    };
    let (ty, is_borrowed) = match &last.ty {
        Type::Reference(reference) if reference.mutability.is_none() => (&*reference.elem, true),
        ty => (ty, false),
    };
    let Some(sender) = sender(ty) else {
        return Err(syn::Error::new_spanned(&last.ty, wanted));
    };
    let Some(item) = type_arguments(sender).next() else {
        let text = "which type do the items have? Write `ReplyStreamSender<T, E>`";
        return Err(syn::Error::new_spanned(ty, text));
    };
    check::owned(item)?;
    no_self(ty)?;
    Ok(Items {
        field: last.field,
        sender: ty.clone(),
        item: item.clone(),
        is_borrowed,
        buffer,
    })
}

/// Takes the tick of a timer's method off, if it has one.
fn takes_tick(arguments: &mut Vec<Argument>) -> syn::Result<bool> {
    let is_tick = |ty: &Type| matches!(ty, Type::Path(path) if path.path.segments.last().is_some_and(|last| last.ident == "Tick"));
    match arguments.as_slice() {
        [] => Ok(false),
        [only] if is_tick(&only.ty) => {
            arguments.clear();
            Ok(true)
        }
        [.., other] => Err(syn::Error::new_spanned(
            &other.ty,
            "a timer has nothing to say but the time: its method takes no argument, or the `Tick`",
        )),
    }
}

/// The `ReplyStreamSender<T, E>` of a type, if it is one.
fn sender(ty: &Type) -> Option<&PathSegment> {
    let ty = match ty {
        Type::Reference(reference) => &*reference.elem,
        ty => ty,
    };
    let Type::Path(path) = ty else { return None };
    let last = path.path.segments.last()?;
    (last.ident == "ReplyStreamSender").then_some(last)
}

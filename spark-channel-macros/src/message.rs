//! One method of the block: what message it is, if it is one.

use std::time::Duration;

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::{
    Attribute, FnArg, GenericArgument, Ident, ImplItemFn, Lit, LitInt, Meta, Pat, PathArguments,
    PathSegment, ReceiverKind, ReturnType, Signature, Type, Visibility, ext::IdentExt, parse_quote,
};

use crate::{
    arguments::set,
    class::{self, Class},
    duration,
    module::{Errors, result, take_attributes, type_arguments},
    names::{camel_case, field},
};

/// A method that is a message.
pub(crate) struct Message {
    pub(crate) kind: Kind,
    pub(crate) name: Ident,
    pub(crate) variant: Ident,
    pub(crate) vis: Visibility,
    pub(crate) arguments: Vec<Argument>,
    /// What the method returns when all is well.
    pub(crate) reply: Type,
    /// Whether it returns a `Result`.
    pub(crate) is_fallible: bool,
    /// The error it returns, if that is spelled out.
    pub(crate) error: Option<Type>,
    pub(crate) docs: Vec<Attribute>,
    pub(crate) cfgs: Vec<Attribute>,
    pub(crate) timeout: Option<Duration>,
    /// The class it is sorted into, if it says so.
    pub(crate) class: Option<Class>,
}

pub(crate) enum Kind {
    Request,
    /// A request whose reply is sent item by item.
    Stream(Box<Items>),
    Command,
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

pub(crate) struct Argument {
    pub(crate) field: Ident,
    pub(crate) ty: Type,
}

/// A method that the module calls without a message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hook {
    Started,
    Stopped,
    Undelivered,
    CommandFailed,
}

/// What `#[request(..)]` and `#[command(..)]` can say.
#[derive(Default)]
struct Settings {
    is_stream: bool,
    timeout: Option<Duration>,
    buffer: Option<LitInt>,
    class: class::Settings,
}

// === impl Message ===

impl Message {
    /// The method's name, for people.
    pub(crate) fn text(&self) -> String {
        self.name.unraw().to_string()
    }
}

// === impl Hook ===

impl Hook {
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
}

// === impl Settings ===

impl Settings {
    fn read(attribute: &Attribute, kind: &str) -> syn::Result<Self> {
        let mut settings = Self::default();
        if matches!(attribute.meta, Meta::Path(_)) {
            return Ok(settings);
        }
        attribute.parse_nested_meta(|meta| {
            let name = meta.path.require_ident()?.clone();
            if settings.class.read(kind, &meta)? {
                return Ok(());
            }
            match (kind, name.to_string().as_str()) {
                ("request", "stream") => settings.is_stream = true,
                ("request", "timeout") => {
                    let literal: Lit = meta.value()?.parse()?;
                    set(&mut settings.timeout, &name, duration::read(&literal)?)?;
                }
                ("request", "buffer") => {
                    let literal: LitInt = meta.value()?.parse()?;
                    if literal.base10_parse::<usize>()? == 0 {
                        let text = "a buffer holds one item at least";
                        return Err(syn::Error::new_spanned(literal, text));
                    }
                    set(&mut settings.buffer, &name, literal)?;
                }
                ("request", other) => {
                    return Err(meta.error(format!(
                        "unknown setting `{other}`: a request knows `stream`, `timeout = \"2s\"`, \
                         `buffer = 64` (with `stream`), {OF_CLASSES}"
                    )));
                }
                (_, other) => {
                    return Err(meta.error(format!(
                        "unknown setting `{other}`: a command knows {OF_CLASSES}, `conflate`"
                    )));
                }
            }
            Ok(())
        })?;
        if let (Some(buffer), false) = (&settings.buffer, settings.is_stream) {
            let text = "`buffer` is for streamed replies: `#[request(stream, buffer = ..)]`";
            return Err(syn::Error::new_spanned(buffer, text));
        }
        Ok(settings)
    }
}

/// Reads a method that is a message; `None` for any other. Takes its attributes off.
pub(crate) fn read(method: &mut ImplItemFn) -> syn::Result<Option<Message>> {
    let attributes = take_attributes(&mut method.attrs, &["request", "command"]);
    let attribute = match attributes.as_slice() {
        [] => return Ok(None),
        [one] => one,
        [_, second, ..] => {
            let text = "a method is one message: either `#[request]` or `#[command]`, once";
            return Err(syn::Error::new_spanned(second, text));
        }
    };
    let kind = if attribute.path().is_ident("request") {
        "request"
    } else {
        "command"
    };
    let mut errors = Errors::default();
    errors.keep(check_signature(&method.sig, kind));
    let Some(settings) = errors.keep(Settings::read(attribute, kind)) else {
        return errors.into_result().map(|()| None);
    };
    let mut arguments = read_arguments(&method.sig, &mut errors);
    let items = if settings.is_stream {
        errors.keep(read_items(&method.sig, arguments.pop(), settings.buffer))
    } else {
        None
    };
    for argument in &arguments {
        errors.keep(check_owned(&argument.ty));
        errors.keep(check_no_self(&argument.ty));
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
    let (reply, is_fallible, error) = read_output(&method.sig.output);
    errors.keep(check_output(&reply, kind, settings.is_stream));
    errors.into_result()?;
    method.attrs.push(allowances());
    let with_name = |name: &str| {
        let named = |attribute: &&Attribute| attribute.path().is_ident(name);
        method.attrs.iter().filter(named).cloned().collect()
    };
    Ok(Some(Message {
        kind: match (kind, items) {
            ("command", _) => Kind::Command,
            (_, Some(items)) => Kind::Stream(Box::new(items)),
            (_, None) => Kind::Request,
        },
        variant: camel_case(&method.sig.ident),
        name: method.sig.ident.clone(),
        vis: method.vis.clone(),
        arguments,
        reply,
        is_fallible,
        error,
        docs: with_name("doc"),
        cfgs: with_name("cfg"),
        timeout: settings.timeout,
        class,
    }))
}

/// Reads a method that is a hook; `None` for any other. Takes its attribute off.
pub(crate) fn read_hook(method: &mut ImplItemFn) -> syn::Result<Option<Hook>> {
    for hook in Hook::ALL {
        let attributes = take_attributes(&mut method.attrs, &[hook.name()]);
        let Some(attribute) = attributes.first() else {
            continue;
        };
        attribute.meta.require_path_only()?;
        let is_async = hook != Hook::CommandFailed;
        let (_, is_fallible, _) = read_output(&method.sig.output);
        if method.sig.asyncness.is_some() != is_async
            || is_fallible != (hook == Hook::Started)
            || method.sig.receiver().is_none()
            || method.sig.inputs.len() != hook.arguments() + 1
        {
            let (name, ident) = (hook.name(), &method.sig.ident);
            let text = match hook {
                Hook::Started => {
                    format!("`#[{name}]` is an `async fn {ident}(&mut self) -> Result<(), Error>`")
                }
                Hook::Stopped => format!("`#[{name}]` is an `async fn {ident}(&mut self)`"),
                Hook::Undelivered => {
                    format!("`#[{name}]` is an `async fn {ident}(&mut self, message: ..Message)`")
                }
                Hook::CommandFailed => {
                    format!("`#[{name}]` is a `fn {ident}(&mut self, error: Error)`")
                }
            };
            return Err(syn::Error::new(method.sig.ident.span(), text));
        }
        method.attrs.push(allowances());
        return Ok(Some(hook));
    }
    Ok(None)
}

/// For what the shape of such a method demands, and pedants would have otherwise.
fn allowances() -> Attribute {
    parse_quote! {
        #[allow(
            clippy::needless_pass_by_value,
            clippy::unused_async,
            clippy::unused_self,
            reason = "a module's method is async, has a receiver, and owns its arguments"
        )]
    }
}

fn check_signature(signature: &Signature, kind: &str) -> syn::Result<()> {
    let mut errors = Errors::default();
    let name = &signature.ident;
    if signature.asyncness.is_none() {
        let text = format!("a {kind} is handled by an `async fn`: write `async fn {name}`");
        errors.add(syn::Error::new(signature.fn_token.span, text));
    }
    let receiver = "a message is handled by a method: its first argument is `&self` or `&mut self`";
    match signature.receiver() {
        None => errors.add(syn::Error::new(name.span(), receiver)),
        Some(found) if !matches!(found.kind, ReceiverKind::Reference(..)) => {
            errors.add(syn::Error::new_spanned(found, receiver));
        }
        Some(_) => {}
    }
    let generics = "a message is one variant of an enum: its method has no type parameters of its own; \
        put them on the impl block";
    if !signature.generics.params.is_empty() {
        errors.add(syn::Error::new_spanned(
            &signature.generics.params,
            generics,
        ));
    } else if let Some(clause) = &signature.generics.where_clause {
        errors.add(syn::Error::new_spanned(clause, generics));
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

fn read_arguments(signature: &Signature, errors: &mut Errors) -> Vec<Argument> {
    let typed = signature.inputs.iter().filter_map(|input| match input {
        FnArg::Typed(typed) => Some(typed),
        FnArg::Receiver(_) => None,
    });
    let mut arguments = Vec::new();
    for argument in typed {
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
    let Some(item) = type_arguments(&sender.arguments).next() else {
        let text = "which type do the items have? Write `ReplyStreamSender<T, E>`";
        return Err(syn::Error::new_spanned(ty, text));
    };
    check_owned(item)?;
    check_no_self(ty)?;
    Ok(Items {
        field: last.field,
        sender: ty.clone(),
        item: item.clone(),
        is_borrowed,
        buffer,
    })
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

/// The reply, whether it comes in a `Result`, and the error if that is spelled out.
fn read_output(output: &ReturnType) -> (Type, bool, Option<Type>) {
    match output {
        ReturnType::Default => (parse_quote!(()), false, None),
        ReturnType::Type(_, ty) => match result(ty) {
            Some((reply, error)) => (reply.clone(), true, error.cloned()),
            None => ((**ty).clone(), false, None),
        },
    }
}

fn check_output(reply: &Type, kind: &str, is_stream: bool) -> syn::Result<()> {
    if let Type::ImplTrait(opaque) = reply {
        let text = "a reply is stored in an enum: name its type";
        return Err(syn::Error::new_spanned(opaque, text));
    }
    check_no_self(reply)?;
    check_owned(reply)?;
    let is_unit = matches!(reply, Type::Tuple(tuple) if tuple.elems.is_empty());
    let text = match (kind, is_stream) {
        ("command", _) => {
            "nobody waits for the reply to a command: return nothing or `Result<(), E>`, or make it a \
             `#[request]`"
        }
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
fn check_owned(ty: &Type) -> syn::Result<()> {
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
            let text = "a message is one variant of an enum: name the argument's type";
            Err(syn::Error::new_spanned(ty, text))
        }
        Type::Tuple(tuple) => tuple.elems.iter().try_for_each(check_owned),
        Type::Array(array) => check_owned(&array.elem),
        Type::Slice(slice) => check_owned(&slice.elem),
        Type::Paren(paren) => check_owned(&paren.elem),
        Type::Path(path) => path
            .path
            .segments
            .iter()
            .try_for_each(|segment| check_arguments(&segment.arguments)),
        _ => Ok(()),
    }
}

fn check_arguments(arguments: &PathArguments) -> syn::Result<()> {
    let PathArguments::AngleBracketed(arguments) = arguments else {
        return Ok(());
    };
    arguments
        .args
        .iter()
        .try_for_each(|argument| match argument {
            GenericArgument::Type(ty) => check_owned(ty),
            GenericArgument::Lifetime(life) if life.ident != "static" => {
                let text = "a message owns what it carries: it has no lifetime but `'static`";
                Err(syn::Error::new_spanned(life, text))
            }
            _ => Ok(()),
        })
}

fn check_no_self(ty: &Type) -> syn::Result<()> {
    fn find(tokens: TokenStream) -> Option<Ident> {
        tokens.into_iter().find_map(|token| match token {
            TokenTree::Ident(ident) if ident == "Self" => Some(ident),
            TokenTree::Group(group) => find(group.stream()),
            _ => None,
        })
    }
    match find(ty.to_token_stream()) {
        None => Ok(()),
        Some(ident) => Err(syn::Error::new(
            ident.span(),
            "this type goes into an enum, where `Self` is another one: write the name",
        )),
    }
}

const OF_CLASSES: &str =
    "`priority = \"high\"`, `capacity = 8`, `overflow = \"drop_oldest\"`, `class = HALT`";

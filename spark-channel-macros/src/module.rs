//! The impl block as a whole: what is read of it, and what is wrong with it.

use proc_macro2::{Span, TokenStream};
use quote::ToTokens;
use syn::{
    Attribute, GenericArgument, Generics, Ident, ImplItem, Item, ItemImpl, Meta, Path,
    PathArguments, PathSegment, Token, Type, Visibility, ext::IdentExt, parse_quote,
    punctuated::Punctuated,
};

use crate::{
    arguments::{Arguments, Mock},
    hook::{self, Hook},
    message::{self, Message, Output},
    names::{derived, respanned},
};

/// Everything that is generated comes from this.
pub(crate) struct Module {
    pub(crate) spark_channel: Path,
    pub(crate) vis: Visibility,
    pub(crate) self_ty: Type,
    pub(crate) generics: Generics,
    pub(crate) error: Type,
    pub(crate) names: Names,
    /// What the message enum derives.
    pub(crate) derive: Vec<Path>,
    pub(crate) is_reader_writer: bool,
    pub(crate) messages: Vec<Message>,
    pub(crate) hooks: Vec<Hook>,
    /// Conditions of the whole block.
    pub(crate) cfgs: Vec<Attribute>,
    /// The lints that the block and the methods of its messages are spared.
    pub(crate) allowed: Vec<Path>,
}

/// What the items are called.
pub(crate) struct Names {
    pub(crate) handler: Ident,
    pub(crate) message: Ident,
    pub(crate) response: Ident,
    pub(crate) client: Ident,
    pub(crate) replies: Ident,
    pub(crate) api: Ident,
    pub(crate) mock: Option<Ident>,
}

/// What is wrong, all of it and not only the first.
#[derive(Default)]
pub(crate) struct Errors(Option<syn::Error>);

// === impl Module ===

impl Module {
    /// Reads the block and takes the attributes of this macro off it. The block comes
    /// back in any case: without it, every use of its methods would be an error too.
    pub(crate) fn read(
        mut block: ItemImpl,
        arguments: impl FnOnce(&mut Errors) -> Option<Arguments>,
    ) -> (ItemImpl, syn::Result<Self>) {
        let mut errors = Errors::default();
        let arguments = arguments(&mut errors).unwrap_or_default();
        errors.keep(check_lifetimes(&block));
        let handler = errors.keep(handler_name(&block.self_ty));
        let (messages, hooks) = read_methods(&mut block, &mut errors);
        if messages.is_empty() && errors.0.is_none() {
            errors.add(syn::Error::new_spanned(
                &block.self_ty,
                "no method of this block is a message: put `#[request]`, `#[command]` or \
                 `#[every(\"30s\")]` on an `async fn`",
            ));
        }
        if let Some(span) = arguments.reader_writer {
            let reads = |message: &Message| message.reads.is_some() && message.is_request();
            if errors.0.is_none() && !messages.iter().any(reads) {
                let text = "nothing to run side by side: no request of this block takes `&self`";
                errors.add(syn::Error::new(span, text));
            }
        }
        let module = match (errors.into_result(), handler) {
            (Ok(()), Some(handler)) => {
                let module = Self::new(arguments, handler, &block, messages, hooks);
                message::no_self(&module.error).map(|()| module)
            }
            (Err(error), _) => Err(error),
            (Ok(()), None) => unreachable!("a handler without a name is an error"),
        };
        (block, module)
    }

    fn new(
        arguments: Arguments,
        handler: Ident,
        block: &ItemImpl,
        messages: Vec<Message>,
        hooks: Vec<Hook>,
    ) -> Self {
        let spark_channel = arguments
            .spark_channel
            .unwrap_or_else(|| parse_quote!(::spark_channel));
        let error = arguments
            .error
            .unwrap_or_else(|| default_error(&messages, &spark_channel));
        let name = |given: Option<Ident>, kind| {
            given.unwrap_or_else(|| derived(&handler, &format!("{handler}{kind}")))
        };
        let client = name(arguments.client, "Client");
        let names = Names {
            message: name(arguments.message, "Message"),
            response: name(arguments.response, "Response"),
            // No argument names it, so it has its name from what each block has one of.
            replies: derived(&client, &format!("{}Replies", client.unraw())),
            client,
            api: name(arguments.api, "Api"),
            mock: arguments.mock.map(|mock| match mock {
                Mock::ByDefault => name(None, "Mock"),
                Mock::Named(mock) => mock,
            }),
            handler,
        };
        Self {
            vis: foreign(&arguments.vis.unwrap_or_else(|| widest(&messages))),
            spark_channel,
            self_ty: (*block.self_ty).clone(),
            generics: block.generics.clone(),
            error,
            names,
            derive: arguments.derive.unwrap_or_default(),
            is_reader_writer: arguments.reader_writer.is_some(),
            allowed: allowed(&block.attrs)
                .chain(messages.iter().flat_map(|message| message.allowed.clone()))
                .collect(),
            messages,
            hooks,
            cfgs: cfgs(&block.attrs),
        }
    }
}

// === impl Errors ===

impl Errors {
    pub(crate) fn add(&mut self, error: syn::Error) {
        match &mut self.0 {
            None => self.0 = Some(error),
            Some(errors) => errors.combine(error),
        }
    }

    /// What came out well, if it did.
    pub(crate) fn keep<T>(&mut self, result: syn::Result<T>) -> Option<T> {
        result.map_err(|error| self.add(error)).ok()
    }

    pub(crate) fn into_result(self) -> syn::Result<()> {
        self.0.map_or(Ok(()), Err)
    }
}

/// The item the attribute stands on, if it is one that can be a module.
pub(crate) fn inherent_impl(item: &TokenStream) -> syn::Result<ItemImpl> {
    let wanted = "`#[module]` goes on an inherent impl block: `impl Stock { .. }`";
    let item = match syn::parse2(item.clone()) {
        Ok(Item::Impl(block)) => block,
        Ok(item) => return Err(syn::Error::new_spanned(item, wanted)),
        Err(error) => return Err(error),
    };
    match &item.trait_ {
        None => Ok(item),
        Some((path, _)) => Err(syn::Error::new_spanned(
            path,
            format!("{wanted}; the handler trait is implemented by the macro"),
        )),
    }
}

fn read_methods(block: &mut ItemImpl, errors: &mut Errors) -> (Vec<Message>, Vec<Hook>) {
    let mut messages: Vec<Message> = Vec::new();
    let mut hooks: Vec<Hook> = Vec::new();
    for item in &mut block.items {
        let ImplItem::Fn(method) = item else { continue };
        if let Some(message) = errors.keep(message::read(method)).flatten() {
            // Of two that are never there at once, only one is the variant.
            let twin = messages.iter().find(|other| {
                other.variant == message.variant
                    && (other.cfgs.is_empty() || message.cfgs.is_empty())
            });
            if let Some(other) = twin {
                let text = format!(
                    "`{}` and `{}` would be the same variant, `{}`: rename one of them",
                    other.name, message.name, message.variant
                );
                errors.add(syn::Error::new(message.name.span(), text));
            }
            messages.push(message);
        }
        if let Some(hook) = errors.keep(hook::read(method)).flatten() {
            let twin = hooks.iter().find(|other| {
                other.kind == hook.kind && (other.cfgs.is_empty() || hook.cfgs.is_empty())
            });
            if twin.is_some() {
                let text = format!("there is another `#[{}]` in this block", hook.kind.name());
                errors.add(syn::Error::new(method.sig.ident.span(), text));
            }
            hooks.push(hook);
        }
    }
    (messages, hooks)
}

/// `vis`, written by the macro: for lints, an item starts where its visibility does.
fn foreign(vis: &Visibility) -> Visibility {
    let tokens = respanned(vis.to_token_stream(), Span::call_site());
    parse_quote!(#tokens)
}

/// That of the first method that can fail.
fn default_error(messages: &[Message], spark_channel: &Path) -> Type {
    let first = messages.iter().find_map(|message| match &message.output {
        Output::Fallible(fallible) => Some(fallible),
        Output::Infallible => None,
    });
    match first.map(|fallible| (&fallible.result, &fallible.error)) {
        None => parse_quote!(#spark_channel::__private::Report),
        Some((_, Some(error))) => error.clone(),
        // An alias, which says what its error is to the compiler alone.
        Some((result, None)) => parse_quote!(#spark_channel::__private::ErrorOf<#result>),
    }
}

fn check_lifetimes(block: &ItemImpl) -> syn::Result<()> {
    let text = "a module owns its state: its handler has no lifetime parameters";
    let mut errors = Errors::default();
    for parameter in block.generics.lifetimes() {
        errors.add(syn::Error::new_spanned(parameter, text));
    }
    // `Stock<'_>` and `Stock<&T>` have one without a name.
    let Type::Path(path) = &*block.self_ty else {
        return errors.into_result();
    };
    for argument in path.path.segments.iter().flat_map(generic_arguments) {
        let is_elided = match argument {
            GenericArgument::Lifetime(lifetime) => lifetime.ident == "_",
            GenericArgument::Type(Type::Reference(reference)) => {
                let lifetime = reference.lifetime.as_ref();
                lifetime.is_none_or(|lifetime| lifetime.ident == "_")
            }
            _ => false,
        };
        if is_elided {
            errors.add(syn::Error::new_spanned(argument, text));
        }
    }
    errors.into_result()
}

fn handler_name(self_ty: &Type) -> syn::Result<Ident> {
    let named = match self_ty {
        Type::Path(path) if path.qself.is_none() => path.path.segments.last(),
        _ => None,
    };
    named.map(|segment| segment.ident.unraw()).ok_or_else(|| {
        syn::Error::new_spanned(
            self_ty,
            "a module's handler is a struct or an enum of this crate",
        )
    })
}

/// The widest visibility of a message's method.
fn widest(messages: &[Message]) -> Visibility {
    let breadth = |vis: &Visibility| match vis {
        Visibility::Public(_) => 3,
        Visibility::Restricted(vis) if vis.path.is_ident("crate") => 2,
        Visibility::Restricted(_) => 1,
        Visibility::Inherited => 0,
    };
    let of_messages = messages.iter().map(|message| &message.vis);
    // The first of the widest.
    let widest = of_messages.rev().max_by_key(|vis| breadth(vis));
    widest.cloned().unwrap_or(Visibility::Inherited)
}

/// The `T`, and the `E` if there is one, of a type that is spelled `Result<T, E>`,
/// whatever its path.
pub(crate) fn result(ty: &Type) -> Option<(&Type, Option<&Type>)> {
    let Type::Path(path) = ty else { return None };
    let last = path.path.segments.last()?;
    if last.ident != "Result" {
        return None;
    }
    let mut types = type_arguments(last);
    Some((types.next()?, types.next()))
}

/// The types among generic arguments.
pub(crate) fn type_arguments(segment: &PathSegment) -> impl Iterator<Item = &Type> {
    generic_arguments(segment).filter_map(|argument| match argument {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    })
}

fn generic_arguments(segment: &PathSegment) -> impl Iterator<Item = &GenericArgument> {
    let arguments = match &segment.arguments {
        PathArguments::AngleBracketed(arguments) => Some(&arguments.args),
        _ => None,
    };
    arguments.into_iter().flatten()
}

/// The attributes of these names, taken off.
pub(crate) fn take_attributes(attributes: &mut Vec<Attribute>, names: &[&str]) -> Vec<Attribute> {
    let is_one = |attribute: &Attribute| names.iter().any(|name| attribute.path().is_ident(name));
    let (taken, left) = std::mem::take(attributes).into_iter().partition(is_one);
    *attributes = left;
    taken
}

/// The conditions among attributes.
pub(crate) fn cfgs(attributes: &[Attribute]) -> Vec<Attribute> {
    let is_cfg = |attribute: &&Attribute| attribute.path().is_ident("cfg");
    attributes.iter().filter(is_cfg).cloned().collect()
}

/// The lints that attributes allow, or expect.
pub(crate) fn allowed(attributes: &[Attribute]) -> impl Iterator<Item = Path> {
    let lists = attributes.iter().filter_map(|attribute| {
        let path = attribute.path();
        if !path.is_ident("allow") && !path.is_ident("expect") {
            return None;
        }
        // The reason is no path. What cannot be read, the compiler complains about.
        let lints = Punctuated::<Meta, Token![,]>::parse_terminated;
        attribute.parse_args_with(lints).ok()
    });
    lists.flatten().filter_map(|lint| match lint {
        Meta::Path(path) => Some(path),
        Meta::List(_) | Meta::NameValue(_) => None,
    })
}

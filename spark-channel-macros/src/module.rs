//! The impl block as a whole: what is read of it, and what is wrong with it.

use proc_macro2::TokenStream;
use syn::{
    Attribute, GenericArgument, GenericParam, Generics, Ident, ImplItem, Item, ItemImpl, Path,
    PathArguments, Type, Visibility, parse_quote,
};

use crate::{
    arguments::{Arguments, Mock},
    message::{self, Hook, Message},
    names::derived,
};

/// Everything that is generated comes from this.
pub(crate) struct Module {
    pub(crate) spark_channel: Path,
    pub(crate) vis: Visibility,
    pub(crate) self_ty: Type,
    pub(crate) generics: Generics,
    pub(crate) error: Type,
    pub(crate) names: Names,
    pub(crate) messages: Vec<Message>,
    pub(crate) hooks: Vec<(Hook, Ident)>,
}

/// What the items are called.
pub(crate) struct Names {
    pub(crate) handler: Ident,
    pub(crate) message: Ident,
    pub(crate) response: Ident,
    pub(crate) client: Ident,
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
        errors.keep(check_generics(&block.generics));
        let handler = errors.keep(handler_name(&block.self_ty));
        let (messages, hooks) = read_methods(&mut block, &mut errors);
        if messages.is_empty() && errors.0.is_none() {
            errors.add(syn::Error::new_spanned(
                &block.self_ty,
                "no method of this block is a message: put `#[request]` or `#[command]` on an \
                 `async fn`",
            ));
        }
        let module = match (errors.into_result(), handler) {
            (Ok(()), Some(handler)) => {
                let (self_ty, generics) = ((*block.self_ty).clone(), block.generics.clone());
                Ok(Self::new(
                    arguments, handler, self_ty, generics, messages, hooks,
                ))
            }
            (Err(error), _) => Err(error),
            (Ok(()), None) => unreachable!("a handler without a name is an error"),
        };
        (block, module)
    }

    fn new(
        arguments: Arguments,
        handler: Ident,
        self_ty: Type,
        generics: Generics,
        messages: Vec<Message>,
        hooks: Vec<(Hook, Ident)>,
    ) -> Self {
        let spark_channel = arguments
            .spark_channel
            .unwrap_or_else(|| parse_quote!(::spark_channel));
        let error = arguments
            .error
            .or_else(|| messages.iter().find_map(|message| message.error.clone()))
            .unwrap_or_else(|| parse_quote!(#spark_channel::__private::Report));
        let name = |given: Option<Ident>, kind| {
            given.unwrap_or_else(|| derived(&handler, &format!("{handler}{kind}")))
        };
        let names = Names {
            message: name(arguments.message, "Message"),
            response: name(arguments.response, "Response"),
            client: name(arguments.client, "Client"),
            api: name(arguments.api, "Api"),
            mock: arguments.mock.map(|mock| match mock {
                Mock::ByDefault => name(None, "Mock"),
                Mock::Named(mock) => mock,
            }),
            handler,
        };
        Self {
            vis: arguments.vis.unwrap_or_else(|| widest(&messages)),
            spark_channel,
            self_ty,
            generics,
            error,
            names,
            messages,
            hooks,
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

fn read_methods(block: &mut ItemImpl, errors: &mut Errors) -> (Vec<Message>, Vec<(Hook, Ident)>) {
    let mut messages: Vec<Message> = Vec::new();
    let mut hooks: Vec<(Hook, Ident)> = Vec::new();
    for item in &mut block.items {
        let ImplItem::Fn(method) = item else { continue };
        if let Some(message) = errors.keep(message::read(method)).flatten() {
            if let Some(other) = messages
                .iter()
                .find(|other| other.variant == message.variant)
            {
                let text = format!(
                    "`{}` and `{}` would be the same variant, `{}`: rename one of them",
                    other.name, message.name, message.variant
                );
                errors.add(syn::Error::new(message.name.span(), text));
            }
            messages.push(message);
        }
        if let Some(hook) = errors.keep(message::read_hook(method)).flatten() {
            if hooks.iter().any(|(other, _)| *other == hook) {
                let text = format!("there is another `#[{}]` in this block", hook.name());
                errors.add(syn::Error::new(method.sig.ident.span(), text));
            }
            hooks.push((hook, method.sig.ident.clone()));
        }
    }
    (messages, hooks)
}

fn check_generics(generics: &Generics) -> syn::Result<()> {
    let mut errors = Errors::default();
    for parameter in &generics.params {
        if let GenericParam::Lifetime(lifetime) = parameter {
            errors.add(syn::Error::new_spanned(
                lifetime,
                "a module owns its state: its handler has no lifetime parameters",
            ));
        }
    }
    errors.into_result()
}

fn handler_name(self_ty: &Type) -> syn::Result<Ident> {
    let named = match self_ty {
        Type::Path(path) if path.qself.is_none() => path.path.segments.last(),
        _ => None,
    };
    named.map(|segment| segment.ident.clone()).ok_or_else(|| {
        syn::Error::new_spanned(
            self_ty,
            "a module's handler is a struct or an enum of this crate",
        )
    })
}

/// The widest visibility of a message's method.
fn widest(messages: &[Message]) -> Visibility {
    let of = |wanted: fn(&Visibility) -> bool| {
        messages
            .iter()
            .map(|message| &message.vis)
            .find(|vis| wanted(vis))
            .cloned()
    };
    of(|vis| matches!(vis, Visibility::Public(_)))
        .or_else(|| of(|vis| matches!(vis, Visibility::Restricted(_))))
        .unwrap_or(Visibility::Inherited)
}

/// The `T`, and the `E` if there is one, of a type that is spelled `Result<T, E>`,
/// whatever its path.
pub(crate) fn result(ty: &Type) -> Option<(&Type, Option<&Type>)> {
    let Type::Path(path) = ty else { return None };
    let last = path.path.segments.last()?;
    if last.ident != "Result" {
        return None;
    }
    let mut types = type_arguments(&last.arguments);
    Some((types.next()?, types.next()))
}

/// The types among generic arguments.
pub(crate) fn type_arguments(arguments: &PathArguments) -> impl Iterator<Item = &Type> {
    let arguments = match arguments {
        PathArguments::AngleBracketed(arguments) => Some(&arguments.args),
        _ => None,
    };
    arguments
        .into_iter()
        .flatten()
        .filter_map(|argument| match argument {
            GenericArgument::Type(ty) => Some(ty),
            _ => None,
        })
}

/// The attributes of these names, taken off.
pub(crate) fn take_attributes(attributes: &mut Vec<Attribute>, names: &[&str]) -> Vec<Attribute> {
    let is_one = |attribute: &Attribute| names.iter().any(|name| attribute.path().is_ident(name));
    let (taken, left) = std::mem::take(attributes).into_iter().partition(is_one);
    *attributes = left;
    taken
}

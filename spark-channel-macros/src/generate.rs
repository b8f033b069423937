//! The items a module becomes.

mod checks;
mod client;
mod enums;
mod handler;
mod mock;

use std::{collections::BTreeSet, iter::once, time::Duration};

use proc_macro2::{TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::{
    Attribute, File, GenericParam, Generics, Ident, Item, Token, Type, TypeParamBound, Visibility,
    WherePredicate, parse_quote, punctuated::Punctuated,
};

use crate::{
    message::{Kind, Message},
    module::Module,
};

/// All of them.
pub(crate) fn items(module: &Module) -> TokenStream {
    let context = Context::new(module);
    let enums = enums::items(&context);
    let handler = handler::item(&context);
    let client = client::items(&context);
    let mock = mock::items(&context);
    let checks = checks::item(&context);
    let items = quote!(#enums #handler #client #mock #checks);
    if module.cfgs.is_empty() {
        items
    } else {
        under(&module.cfgs, items)
    }
}

/// A module, and the types its items speak of.
struct Context<'a> {
    module: &'a Module,
    /// The message enum with its arguments, and the type parameters it needs.
    message: Type,
    message_generics: Generics,
    response: Type,
    response_generics: Generics,
    /// What the client, its trait and the mock need.
    client_generics: Generics,
    /// The dispatcher of this module.
    dispatcher: Type,
}

// === impl Context ===

impl<'a> Context<'a> {
    /// `{ item, wanted }`, or nothing for a message without fields.
    fn braced(&self, message: &Message) -> TokenStream {
        let fields = message.fields(&self.module.spark_channel);
        if fields.is_empty() {
            return TokenStream::new();
        }
        let names = fields.iter().map(|(name, _)| name);
        quote!({ #(#names),* })
    }

    /// Whether a type names a parameter of the impl block.
    fn speaks_of_parameters(&self, ty: &Type) -> bool {
        let mut named = BTreeSet::new();
        idents(ty.to_token_stream(), &mut named);
        let mut parameters = self.module.generics.params.iter();
        parameters.any(|parameter| named.contains(&name_of(parameter)))
    }

    /// For all items: some of them may have no use yet, and what the docs say clippy does not
    /// see in a macro in a macro.
    fn allow_unused(&self) -> TokenStream {
        let as_written = self.allow_as_written();
        quote! {
            #[allow(
                dead_code,
                clippy::missing_errors_doc,
                reason = "one module needs this, another that"
            )]
            #as_written
        }
    }

    /// For items that repeat types, arguments and docs of methods: what is allowed there.
    fn allow_as_written(&self) -> Option<TokenStream> {
        let allowed = &self.module.allowed;
        (!allowed.is_empty())
            .then(|| quote!(#[allow(#(#allowed,)* reason = "the method it is made of is")]))
    }

    /// For the enums: they are part of an impl, so nothing is said if they are as visible as
    /// the handler may be.
    fn open(&self) -> TokenStream {
        let hidden =
            (!matches!(self.module.vis, Visibility::Public(_))).then(|| quote!(#[doc(hidden)]));
        let as_written = self.allow_as_written();
        quote! {
            #hidden
            #[allow(
                dead_code,
                private_interfaces,
                unreachable_pub,
                reason = "an associated type is as visible as the type it belongs to"
            )]
            #as_written
        }
    }

    /// For items that name methods, of which one is deprecated.
    fn allow_deprecated(&self) -> Option<TokenStream> {
        let is_deprecated = |message: &Message| message.deprecated.is_some();
        self.module
            .messages
            .iter()
            .any(is_deprecated)
            .then(|| quote!(#[allow(deprecated, reason = "whoever sends it is told")]))
    }

    fn new(module: &'a Module) -> Self {
        let fields: TokenStream = module
            .messages
            .iter()
            .flat_map(|message| message.fields(&module.spark_channel))
            .map(|(_, ty)| ty)
            .collect();
        let replies = module.messages.iter().map(|message| &message.reply);
        let replies: TokenStream = replies.map(ToTokens::to_token_stream).collect();
        let error = module.error.to_token_stream();
        let message_generics = used(&module.generics, once(fields.clone()));
        let response_generics = used(&module.generics, once(replies.clone()));
        let client_generics = used(&module.generics, [fields, replies, error]);
        let applied = |name: &Ident, generics: &Generics| -> Type {
            let (_, arguments, _) = generics.split_for_impl();
            parse_quote!(#name #arguments)
        };
        let message = applied(&module.names.message, &message_generics);
        let response = applied(&module.names.response, &response_generics);
        let (krate, error) = (&module.spark_channel, &module.error);
        let dispatcher = parse_quote! {
            #krate::SparkGenericModuleDispatcher<
                #message, #response, #krate::SparkChannelCancellationToken, #error
            >
        };
        Self {
            module,
            message,
            message_generics,
            response,
            response_generics,
            client_generics,
            dispatcher,
        }
    }
}

pub(crate) fn duration(duration: Duration) -> TokenStream {
    let (seconds, nanos) = (duration.as_secs(), duration.subsec_nanos());
    quote!(::core::time::Duration::new(#seconds, #nanos))
}

/// `()` is a variant without a field.
fn is_unit(ty: &Type) -> bool {
    matches!(ty, Type::Tuple(tuple) if tuple.elems.is_empty())
}

/// What the user has written about a method, or something rather than nothing.
fn docs(message: &Message) -> TokenStream {
    let docs = &message.docs;
    if docs.is_empty() {
        let text = match message.kind {
            Kind::Request => format!(" Asks for `{}`.", message.text()),
            Kind::Stream(_) => format!(" Asks for `{}`, item by item.", message.text()),
            Kind::Command => format!(" Sends the command `{}`.", message.text()),
            Kind::Every(_) => format!(" The timer of `{}` has fired.", message.text()),
        };
        return quote!(#[doc = #text]);
    }
    quote!(#(#docs)*)
}

/// The section on errors of a client's method, unless the user has written one.
fn errors_section(message: &Message) -> TokenStream {
    let has_section = |doc: &Attribute| doc.to_token_stream().to_string().contains("# Errors");
    if message.docs.iter().any(has_section) {
        return TokenStream::new();
    }
    let text = match message.kind {
        Kind::Request => {
            " The handler's own error, or what happened to the call if it was not answered."
        }
        Kind::Stream(_) => " An error is the last item.",
        Kind::Command | Kind::Every(_) => " The message, if it was not accepted.",
    };
    quote!(#[doc = ""] #[doc = " # Errors"] #[doc = ""] #[doc = #text])
}

/// `items`, which are there under the same conditions as the block they are made of.
fn under(cfgs: &[Attribute], items: TokenStream) -> TokenStream {
    let mut file: File = match syn::parse2(items) {
        Ok(file) => file,
        Err(error) => return error.into_compile_error(),
    };
    for item in &mut file.items {
        match item {
            Item::Const(syn::ItemConst { attrs, .. })
            | Item::Enum(syn::ItemEnum { attrs, .. })
            | Item::Impl(syn::ItemImpl { attrs, .. })
            | Item::Struct(syn::ItemStruct { attrs, .. })
            | Item::Trait(syn::ItemTrait { attrs, .. }) => attrs.extend_from_slice(cfgs),
            _ => unreachable!("no other items are written here"),
        }
    }
    file.into_token_stream()
}

/// Those of `generics` that are named in `tokens`, with the bounds that speak of no
/// others.
fn used(generics: &Generics, tokens: impl IntoIterator<Item = TokenStream>) -> Generics {
    let mut named = BTreeSet::new();
    for tokens in tokens {
        idents(tokens, &mut named);
    }
    let all: BTreeSet<String> = generics.params.iter().map(name_of).collect();
    let kept: BTreeSet<String> = all.intersection(&named).cloned().collect();
    let speaks_of_kept = |tokens: TokenStream| {
        let mut named = BTreeSet::new();
        idents(tokens, &mut named);
        all.intersection(&named).all(|name| kept.contains(name))
    };
    let without_others = |bounds: &Bounds| -> Bounds {
        let bounds = bounds.iter().cloned();
        bounds
            .filter(|bound| speaks_of_kept(bound.to_token_stream()))
            .collect()
    };
    let mut used = Generics::default();
    for parameter in &generics.params {
        if !kept.contains(&name_of(parameter)) {
            continue;
        }
        let mut parameter = parameter.clone();
        if let GenericParam::Type(ty) = &mut parameter {
            ty.bounds = without_others(&ty.bounds);
        }
        used.params.push(parameter);
    }
    if used.params.is_empty() {
        return used;
    }
    if let Some(clause) = &generics.where_clause {
        let about_kept = |predicate: &WherePredicate| {
            let mut named = BTreeSet::new();
            idents(predicate.to_token_stream(), &mut named);
            !named.is_disjoint(&kept) && speaks_of_kept(predicate.to_token_stream())
        };
        let predicates = clause.predicates.iter().cloned().map(|mut predicate| {
            if let WherePredicate::Type(about) = &mut predicate {
                about.bounds = without_others(&about.bounds);
            }
            predicate
        });
        let predicates = predicates.filter(about_kept);
        used.make_where_clause().predicates.extend(predicates);
    }
    used
}

type Bounds = Punctuated<TypeParamBound, Token![+]>;

fn name_of(parameter: &GenericParam) -> String {
    match parameter {
        GenericParam::Type(ty) => ty.ident.to_string(),
        GenericParam::Const(constant) => constant.ident.to_string(),
        GenericParam::Lifetime(lifetime) => lifetime.lifetime.to_string(),
    }
}

fn idents(tokens: TokenStream, into: &mut BTreeSet<String>) {
    for token in tokens {
        match token {
            TokenTree::Ident(ident) => {
                into.insert(ident.to_string());
            }
            TokenTree::Group(group) => idents(group.stream(), into),
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}

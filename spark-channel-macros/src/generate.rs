//! The items a module becomes.

mod client;
mod enums;
mod handler;
mod mock;

use std::{collections::BTreeSet, iter::once};

use proc_macro2::{TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::{Attribute, GenericParam, Generics, Ident, Type, WherePredicate, parse_quote};

use crate::{
    message::{Argument, Kind, Message},
    module::Module,
};

/// All of them.
pub(crate) fn items(module: &Module) -> TokenStream {
    let context = Context::new(module);
    let enums = enums::items(&context);
    let handler = handler::item(&context);
    let client = client::items(&context);
    let mock = mock::items(&context);
    quote!(#enums #handler #client #mock)
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
    fn new(module: &'a Module) -> Self {
        let fields = module.messages.iter().flat_map(fields);
        let fields: TokenStream = fields.map(|(_, ty)| ty).collect();
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

/// The fields of a message's variant.
fn fields(message: &Message) -> impl Iterator<Item = (&Ident, TokenStream)> {
    let arguments = message.arguments.iter();
    let arguments = arguments.map(|Argument { field, ty }| (field, ty.to_token_stream()));
    let items = match &message.kind {
        Kind::Stream(items) => Some((&items.field, items.sender.to_token_stream())),
        Kind::Request | Kind::Command => None,
    };
    arguments.chain(items)
}

/// `{ item, wanted }`, or nothing for a message without fields.
fn braced(message: &Message) -> TokenStream {
    let names: Vec<_> = fields(message).map(|(name, _)| name).collect();
    if names.is_empty() {
        TokenStream::new()
    } else {
        quote!({ #(#names),* })
    }
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
        Kind::Command => " The message, if it was not accepted.",
    };
    quote!(#[doc = ""] #[doc = " # Errors"] #[doc = ""] #[doc = #text])
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
    let mut used = Generics::default();
    for parameter in &generics.params {
        if !kept.contains(&name_of(parameter)) {
            continue;
        }
        let mut parameter = parameter.clone();
        if let GenericParam::Type(ty) = &mut parameter {
            let bounds = std::mem::take(&mut ty.bounds);
            ty.bounds = bounds
                .into_iter()
                .filter(|bound| speaks_of_kept(bound.to_token_stream()))
                .collect();
        }
        used.params.push(parameter);
    }
    if used.params.is_empty() {
        return used;
    }
    if let Some(clause) = &generics.where_clause {
        let about_kept = |predicate: &&WherePredicate| {
            let mut named = BTreeSet::new();
            idents(predicate.to_token_stream(), &mut named);
            !named.is_disjoint(&kept) && speaks_of_kept(predicate.to_token_stream())
        };
        let predicates = clause.predicates.iter().filter(about_kept).cloned();
        used.make_where_clause().predicates.extend(predicates);
    }
    used
}

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

//! The attribute of tests: an `async fn` becomes one that runs on a runtime of its own.

use std::time::Duration;

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::{
    FnArg, Ident, Item, ItemFn, Lit, LitBool, LitInt, LitStr, Path, Token,
    ext::IdentExt,
    parse::{Parse, ParseStream},
    parse_quote,
};

use crate::{arguments::set, duration, generate, module::Errors};

/// What stands in the brackets of `#[test(..)]`; all of it is optional.
#[derive(Default)]
struct Arguments {
    spark_channel: Option<Path>,
    flavor: Option<LitStr>,
    worker_threads: Option<LitInt>,
    start_paused: Option<LitBool>,
    timeout: Option<Duration>,
    panics: Option<LitInt>,
    dead_letters: Option<LitInt>,
    interrupted: Option<LitInt>,
    dropped: Option<LitInt>,
    unanswered: Option<LitInt>,
}

/// The test, in the place of `item`.
pub(crate) fn expand(arguments: proc_macro::TokenStream, item: &TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let arguments = errors.keep(syn::parse::<Arguments>(arguments));
    let test = match syn::parse2::<Item>(item.clone()) {
        Ok(Item::Fn(test)) => test,
        other => {
            let wanted = "this attribute goes on a test: `async fn what_holds() { .. }`";
            let error = other.map_or_else(
                |error| error,
                |other| syn::Error::new_spanned(other, wanted),
            );
            let error = error.into_compile_error();
            return quote!(#error #item);
        }
    };
    errors.keep(check(&test));
    let trial = errors.keep(arguments.unwrap_or_default().trial());
    match (errors.into_result(), trial) {
        (Ok(()), Some(trial)) => run(test, &trial),
        (Err(error), _) => {
            // Without the function, whatever only it uses would be unused.
            let error = error.into_compile_error();
            quote!(#error #[allow(dead_code)] #item)
        }
        (Ok(()), None) => unreachable!("a test without a trial is an error"),
    }
}

fn run(test: ItemFn, trial: &TokenStream) -> TokenStream {
    let ItemFn {
        attrs,
        vis,
        sig,
        block,
        ..
    } = test;
    let (name, output) = (sig.ident.clone(), sig.output.clone());
    let body = if sig.inputs.is_empty() {
        quote!(|_| #name())
    } else {
        quote!(#name)
    };
    quote! {
        #(#attrs)*
        #[::core::prelude::v1::test]
        #vis fn #name() #output {
            #[allow(clippy::unused_async, reason = "a test may need a runtime and no `.await`")]
            #sig #block

            #trial.run(#body)
        }
    }
}

fn check(test: &ItemFn) -> syn::Result<()> {
    let mut errors = Errors::default();
    let (sig, name) = (&test.sig, &test.sig.ident);
    if sig.asyncness.is_none() {
        let text = format!(
            "this test runs on a runtime: write `async fn {name}`, or use the plain `#[test]`"
        );
        errors.add(syn::Error::new(sig.fn_token.span, text));
    }
    if !sig.generics.params.is_empty() {
        let text = "nobody could say what the parameters of a test are";
        errors.add(syn::Error::new_spanned(&sig.generics.params, text));
    }
    let wanted = "a test takes nothing, or its audit: `audit: spark_channel::testing::Audit`";
    if let Some(receiver @ FnArg::Receiver(_)) = sig.inputs.first() {
        errors.add(syn::Error::new_spanned(receiver, wanted));
    } else if let Some(second) = sig.inputs.iter().nth(1) {
        errors.add(syn::Error::new_spanned(second, wanted));
    }
    let is_test = |path: &Path| {
        path.segments
            .last()
            .is_some_and(|last| last.ident == "test")
    };
    if let Some(other) = test.attrs.iter().find(|attr| is_test(attr.path())) {
        let text = "it is a test already: leave this attribute out";
        errors.add(syn::Error::new_spanned(other, text));
    }
    errors.into_result()
}

// === impl Arguments ===

impl Arguments {
    fn read(&mut self, name: &Ident, input: ParseStream<'_>) -> syn::Result<()> {
        input.parse::<Token![=]>()?;
        match name.to_string().as_str() {
            "crate" => set(&mut self.spark_channel, name, input.parse()?),
            "flavor" => set(&mut self.flavor, name, input.parse()?),
            "worker_threads" => set(&mut self.worker_threads, name, input.parse()?),
            "start_paused" => set(&mut self.start_paused, name, input.parse()?),
            "timeout" => {
                let literal: Lit = input.parse()?;
                set(&mut self.timeout, name, duration::read(&literal)?)
            }
            "panics" => set(&mut self.panics, name, input.parse()?),
            "dead_letters" => set(&mut self.dead_letters, name, input.parse()?),
            "interrupted" => set(&mut self.interrupted, name, input.parse()?),
            "dropped" => set(&mut self.dropped, name, input.parse()?),
            "unanswered" => set(&mut self.unanswered, name, input.parse()?),
            other => Err(syn::Error::new(
                name.span(),
                format!(
                    "unknown argument `{other}`: `test` knows `panics = 1`, `dead_letters = 1`, \
                     `interrupted = 1`, `dropped = 1`, `unanswered = 1`, `timeout = \"5s\"`, `start_paused = false`, \
                     `flavor = \"multi_thread\"`, `worker_threads = 2` and `crate = path`"
                ),
            )),
        }
    }

    /// The expression that runs it.
    fn trial(self) -> syn::Result<TokenStream> {
        let krate = self
            .spark_channel
            .unwrap_or_else(|| parse_quote!(::spark_channel));
        let is_multi_thread = match &self.flavor {
            None => false,
            Some(flavor) => match flavor.value().as_str() {
                "current_thread" => false,
                "multi_thread" => true,
                _ => {
                    let text = "a flavor is \"current_thread\" or \"multi_thread\"";
                    return Err(syn::Error::new_spanned(flavor, text));
                }
            },
        };
        if let (Some(threads), false) = (&self.worker_threads, is_multi_thread) {
            let text = "worker threads are of `flavor = \"multi_thread\"`";
            return Err(syn::Error::new_spanned(threads, text));
        }
        if let Some(zero) = self.worker_threads.as_ref().filter(|threads| {
            threads
                .base10_parse::<usize>()
                .is_ok_and(|threads| threads == 0)
        }) {
            let text = "a runtime has one worker thread at least";
            return Err(syn::Error::new_spanned(zero, text));
        }
        if let Some(paused) = self
            .start_paused
            .as_ref()
            .filter(|paused| paused.value && is_multi_thread)
        {
            let text = "only the clock of a single thread can be paused";
            return Err(syn::Error::new_spanned(paused, text));
        }
        let start = if is_multi_thread {
            let threads = match self.worker_threads {
                None => quote!(::core::option::Option::None),
                Some(threads) => quote!(::core::option::Option::Some(#threads)),
            };
            quote!(multi_thread(#threads))
        } else {
            let paused = self.start_paused.is_none_or(|paused| paused.value);
            quote!(current_thread(#paused))
        };
        let timeout = self.timeout.map(|timeout| {
            let timeout = generate::duration(timeout);
            quote!(.timeout(#timeout))
        });
        let zero = || LitInt::new("0", Span::call_site());
        let panics = self.panics.unwrap_or_else(zero);
        let dead_letters = self.dead_letters.unwrap_or_else(zero);
        let interrupted = self.interrupted.unwrap_or_else(zero);
        let dropped = self.dropped.unwrap_or_else(zero);
        let unanswered = self.unanswered.unwrap_or_else(zero);
        Ok(quote! {
            #krate::testing::Trial::#start
                #timeout
                .expecting(
                    #krate::testing::Expected::nothing()
                        .panics(#panics)
                        .dead_letters(#dead_letters)
                        .interrupted(#interrupted)
                        .dropped(#dropped),
                    #unanswered,
                )
        })
    }
}

impl Parse for Arguments {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let mut arguments = Self::default();
        while !input.is_empty() {
            let name = input.call(Ident::parse_any)?;
            arguments.read(&name, input)?;
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(arguments)
    }
}

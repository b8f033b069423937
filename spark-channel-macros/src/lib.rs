#![doc = include_str!("../README.md")]

mod arguments;
mod class;
mod duration;
mod generate;
mod hook;
mod message;
mod module;
mod names;
mod test;

use proc_macro::TokenStream;
use quote::quote;

use crate::{arguments::Arguments, module::Module};

/// Makes a module of an inherent `impl` block.
#[proc_macro_attribute]
pub fn module(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let item = proc_macro2::TokenStream::from(item);
    let block = match module::inherent_impl(&item) {
        Ok(block) => block,
        Err(error) => {
            let error = error.into_compile_error();
            return quote!(#error #item).into();
        }
    };
    let (block, read) = Module::read(block, |errors| {
        errors.keep(syn::parse::<Arguments>(arguments))
    });
    let made = match read {
        Ok(module) => generate::items(&module),
        Err(error) => error.into_compile_error(),
    };
    quote!(#block #made).into()
}

/// Makes a test of an `async fn`, with a runtime and an audit of its own.
#[proc_macro_attribute]
pub fn test(arguments: TokenStream, item: TokenStream) -> TokenStream {
    test::expand(arguments, &item.into()).into()
}

//! Typed parameters: what the path and the query of a request say, as one's own types.

use std::borrow::Cow;

use serde::de::DeserializeOwned;

use crate::{ErrorAnswer, PathParameters};

mod deserialize;
mod query;

use self::deserialize::{Fault, Pair, Pairs};

/// Reads `T` from path parameters alone.
pub(crate) fn from_path<T: DeserializeOwned>(path: &PathParameters) -> Result<T, ErrorAnswer> {
    read(Pairs::positional(pairs(path)), "path parameter")
}

/// Reads `T` from a query alone.
pub(crate) fn from_query<T: DeserializeOwned>(query: Option<&str>) -> Result<T, ErrorAnswer> {
    let pairs = query::parse(query.unwrap_or_default()).map_err(|fault| refuse(&fault, QUERY))?;
    read(Pairs::named(pairs), QUERY)
}

/// Reads `T` from both. What the path says cannot be said again, or otherwise, in the query.
pub(crate) fn from_both<T: DeserializeOwned>(
    path: &PathParameters,
    query: Option<&str>,
) -> Result<T, ErrorAnswer> {
    let named = query::parse(query.unwrap_or_default()).map_err(|fault| refuse(&fault, QUERY))?;
    if let Some((name, _)) = named.iter().find(|(name, _)| path.get(name).is_some()) {
        let fault = Fault::at(name, "given in the path already");
        return Err(refuse(&fault, QUERY));
    }
    let mut pairs = pairs(path);
    pairs.extend(named);
    read(Pairs::named(pairs), "parameter")
}

fn read<T: DeserializeOwned>(pairs: Pairs<'_>, place: &str) -> Result<T, ErrorAnswer> {
    T::deserialize(pairs).map_err(|fault| refuse(&fault, place))
}

fn pairs(path: &PathParameters) -> Vec<Pair<'_>> {
    path.iter()
        .map(|(name, value)| (Cow::Borrowed(name), Cow::Borrowed(value)))
        .collect()
}

fn refuse(fault: &Fault, place: &str) -> ErrorAnswer {
    let pointer = fault.pointer();
    ErrorAnswer::bad_parameter(format_args!("{place} {fault}")).with_pointer(pointer)
}

const QUERY: &str = "query parameter";

#[cfg(test)]
mod tests;

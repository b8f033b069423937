//! Which route answers which path and method.

use std::{collections::HashMap, sync::Arc};

use http::{HeaderMap, HeaderValue, Method, request::Parts};
use matchit::InsertError;

use super::path::{self, Pattern};
use crate::{ConfigError, ErrorAnswer, PathParameters, Route, permits::Permits, seeing::Counters};

/// All routes of an ingress. Nothing in it grows after it is built.
pub(super) struct Table {
    /// Finds an index into `paths`.
    matcher: matchit::Router<usize>,
    paths: Vec<Entry>,
    fallback: Option<Named>,
}

/// Routes as they were registered.
#[derive(Debug, Default)]
pub(super) struct Registered {
    routes: Vec<(Place, Route)>,
}

/// Where a route is to be found.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// A name: one literal segment.
    Name(String),
    /// Segments of which some are parameters.
    Path(String),
    /// A path and everything below it.
    Below(String),
    /// Whatever nothing else matches.
    Fallback,
}

/// A route and its name.
pub(super) struct Named {
    pub(super) name: Arc<str>,
    pub(super) route: Route,
    pub(super) permits: Option<Arc<Permits>>,
    pub(super) counters: Option<Arc<Counters>>,
}

/// What a request's path and method lead to.
pub(super) struct Found<'a> {
    pub(super) named: &'a Named,
    pub(super) parameters: PathParameters,
}

/// The routes of one path.
struct Entry {
    #[cfg(feature = "openapi")]
    pattern: String,
    parameters: Vec<Arc<str>>,
    /// Whether requests choose some of what matches: a parameter, or what is below.
    is_open: bool,
    is_below: bool,
    by_method: Vec<Named>,
    allow: HeaderValue,
}

// === impl Registered ===

impl Registered {
    pub(super) fn push(&mut self, place: Place, route: Route) {
        self.routes.push((place, route));
    }

    /// # Errors
    ///
    /// [`ConfigError`] for places that cannot be, or be told apart.
    pub(super) fn build(self) -> Result<Table, ConfigError> {
        let mut table = Table {
            matcher: matchit::Router::new(),
            paths: Vec::new(),
            fallback: None,
        };
        let mut by_pattern = HashMap::new();
        for (place, route) in self.routes {
            table.insert(place, route, &mut by_pattern)?;
        }
        for entry in &mut table.paths {
            entry.allow = allow(&entry.by_method);
        }
        Ok(table)
    }
}

// === impl Table ===

impl Table {
    /// # Errors
    ///
    /// 400 for what is no path, 404, 405.
    pub(super) fn find(&self, parts: &Parts) -> Result<Found<'_>, ErrorAnswer> {
        let path = parts.uri.path();
        // `*` and the target of a CONNECT are none.
        if !path.starts_with('/') {
            return Err(ErrorAnswer::bad_path("request target is no path"));
        }
        let path = path::canonical(path).map_err(ErrorAnswer::bad_path)?;
        let Ok(matched) = self.matcher.at(&path) else {
            return self.find_fallback(&path, &parts.method);
        };
        let entry = &self.paths[*matched.value];
        if entry.is_open && path::has_dots(&path) {
            return self.find_fallback(&path, &parts.method);
        }
        let Some(named) = entry.of(&parts.method) else {
            return Err(ErrorAnswer::method_not_allowed(&entry.allow));
        };
        let values = matched.params.iter().map(|(_, value)| path::plain(value));
        let parameters = PathParameters::new(entry.parameters.iter().cloned().zip(values));
        Ok(Found { named, parameters })
    }

    /// The routes in the order of their registration, path by path.
    pub(super) fn routes(&self) -> impl Iterator<Item = &Named> {
        let named = self.paths.iter().flat_map(|entry| &entry.by_method);
        named.chain(&self.fallback)
    }

    pub(super) fn routes_mut(&mut self) -> impl Iterator<Item = &mut Named> {
        let named = self.paths.iter_mut().flat_map(|entry| &mut entry.by_method);
        named.chain(&mut self.fallback)
    }

    /// The routes as clients see them, but for those that answer whatever is below a path.
    #[cfg(feature = "openapi")]
    pub(super) fn documented(
        &self,
        needs_key: impl Fn(&Route) -> bool,
    ) -> Vec<crate::openapi::Documented> {
        let entries = self.paths.iter().filter(|entry| !entry.is_below);
        let routes =
            entries.flat_map(|entry| entry.by_method.iter().map(move |named| (entry, named)));
        let documented = routes.map(|(entry, named)| crate::openapi::Documented {
            path: path::template(&entry.pattern),
            parameters: entry.parameters.clone(),
            methods: named.route.methods.listed().to_vec(),
            needs_key: needs_key(&named.route),
            describe: named.route.describe.clone(),
        });
        documented.collect()
    }

    fn find_fallback(&self, path: &str, method: &Method) -> Result<Found<'_>, ErrorAnswer> {
        match &self.fallback {
            Some(named) if named.route.methods.include(method) => Ok(Found {
                named,
                parameters: PathParameters::default(),
            }),
            _ => Err(ErrorAnswer::handler_not_found(&path[1..])),
        }
    }

    fn insert(
        &mut self,
        place: Place,
        route: Route,
        by_pattern: &mut HashMap<String, usize>,
    ) -> Result<(), ConfigError> {
        let (name, pattern, is_below) = match place {
            Place::Name(name) => (name.clone(), Pattern::of_name(&name), false),
            Place::Path(path) => (path.clone(), Pattern::of_path(&path), false),
            Place::Below(path) => (path.clone(), Pattern::of_path(&path), true),
            Place::Fallback => {
                let name = String::from("fallback");
                if self.fallback.is_some() {
                    return Err(ConfigError::DuplicateRoute { name });
                }
                self.fallback = Some(Named::new(&name, route)?);
                return Ok(());
            }
        };
        let pattern = match pattern {
            Ok(pattern) => pattern,
            Err(reason) => return Err(ConfigError::InvalidRouteName { name, reason }),
        };
        let named = Named::new(&name, route)?;
        if let Some(&index) = by_pattern.get(&pattern.text) {
            let entry = &mut self.paths[index];
            let taken = |other: &Named| other.route.methods.overlap(&named.route.methods);
            if is_below || entry.is_below || entry.by_method.iter().any(taken) {
                return Err(ConfigError::DuplicateRoute { name });
            }
            entry.by_method.push(named);
            return Ok(());
        }
        let index = self.paths.len();
        self.try_insert(&name, pattern.text.clone(), index)?;
        if is_below {
            self.try_insert(&name, format!("{}/", pattern.text), index)?;
            self.try_insert(&name, format!("{}/{{*below}}", pattern.text), index)?;
        }
        self.paths.push(Entry {
            #[cfg(feature = "openapi")]
            pattern: pattern.text.clone(),
            is_open: is_below || !pattern.parameters.is_empty(),
            is_below,
            parameters: pattern.parameters,
            by_method: vec![named],
            allow: HeaderValue::from_static(""),
        });
        by_pattern.insert(pattern.text, index);
        Ok(())
    }

    fn try_insert(&mut self, name: &str, pattern: String, index: usize) -> Result<(), ConfigError> {
        self.matcher.insert(pattern, index).map_err(|error| {
            let name = name.to_owned();
            match error {
                InsertError::Conflict { with } => ConfigError::ConflictingRoutes {
                    path: name,
                    other: with,
                },
                _ => ConfigError::InvalidRouteName {
                    name,
                    reason: "is no path that can be matched",
                },
            }
        })
    }
}

// === impl Found ===

impl Found<'_> {
    pub(super) fn needs_identity(&self, headers: &HeaderMap) -> bool {
        self.named.route.access.needs_identity(headers)
    }
}

// === impl Named ===

impl Named {
    fn new(name: &str, route: Route) -> Result<Self, ConfigError> {
        if route.methods.is_empty() {
            let name = name.to_owned();
            return Err(ConfigError::NoMethods { name });
        }
        let permits = route.in_flight.permits(name)?;
        Ok(Self {
            name: name.into(),
            route,
            permits,
            counters: None,
        })
    }
}

// === impl Entry ===

impl Entry {
    fn of(&self, method: &Method) -> Option<&Named> {
        let of = |method: &Method| {
            let mut routes = self.by_method.iter();
            routes.find(|named| named.route.methods.include(method))
        };
        // GET answers HEAD, unless a route says that it does (RFC 9110 9.3.2).
        of(method).or_else(|| of(&Method::GET).filter(|_| method == Method::HEAD))
    }
}

/// What `Allow` says of a path with these routes.
fn allow(routes: &[Named]) -> HeaderValue {
    let mut methods: Vec<&Method> = Vec::new();
    for named in routes {
        methods.extend(named.route.methods.listed());
    }
    if methods.contains(&&Method::GET) && !methods.contains(&&Method::HEAD) {
        methods.push(&Method::HEAD);
    }
    let names: Vec<&str> = methods.iter().map(|method| method.as_str()).collect();
    // Methods are tokens, and so are visible ASCII.
    HeaderValue::from_str(&names.join(", ")).unwrap_or(HeaderValue::from_static(""))
}

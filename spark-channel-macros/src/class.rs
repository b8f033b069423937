//! The class of a message: what its attribute says about it.

use syn::{Ident, LitInt, LitStr, Path, Token, ext::IdentExt, meta::ParseNestedMeta};

use crate::{
    arguments::set,
    message::Argument,
    module::Errors,
    names::{derived, field},
};

/// Which class a message has.
pub(crate) struct Class {
    pub(crate) source: Source,
    pub(crate) conflated: Option<Conflated>,
}

pub(crate) enum Source {
    /// A constant of the user's.
    Constant(Path),
    /// One for this message, named after it.
    Own {
        priority: Option<Ident>,
        capacity: Option<LitInt>,
        overflow: Option<Ident>,
    },
}

/// Which commands make which obsolete.
pub(crate) enum Conflated {
    /// Each the one before it.
    All,
    /// Those whose argument, this field, is equal.
    By(Ident),
}

/// What an attribute says, one by one.
#[derive(Default)]
pub(crate) struct Settings {
    constant: Option<(Ident, Path)>,
    priority: Option<Ident>,
    capacity: Option<LitInt>,
    overflow: Option<Ident>,
    conflated: Option<(Ident, Option<Ident>)>,
}

// === impl Settings ===

impl Settings {
    /// Reads a setting, if it is one of a class.
    pub(crate) fn read(&mut self, kind: &str, meta: &ParseNestedMeta<'_>) -> syn::Result<bool> {
        let name = meta.path.require_ident()?;
        match (kind, name.to_string().as_str()) {
            (_, "class") => {
                let constant = meta.value()?.call(Path::parse_mod_style)?;
                set(&mut self.constant, name, (name.clone(), constant))?;
            }
            (_, "priority") => {
                let priority = one_of(&meta.value()?.parse()?, "priority", &PRIORITIES)?;
                set(&mut self.priority, name, priority)?;
            }
            (_, "capacity") => {
                let capacity: LitInt = meta.value()?.parse()?;
                if capacity.base10_parse::<usize>()? == 0 {
                    let text = "a class holds one message at least";
                    return Err(syn::Error::new_spanned(capacity, text));
                }
                set(&mut self.capacity, name, capacity)?;
            }
            (_, "overflow") => {
                let overflow = one_of(&meta.value()?.parse()?, "overflow policy", &OVERFLOWS)?;
                set(&mut self.overflow, name, overflow)?;
            }
            ("command", "conflate") => {
                let by = if meta.input.peek(Token![=]) {
                    Some(meta.value()?.call(Ident::parse_any)?)
                } else {
                    None
                };
                set(&mut self.conflated, name, (name.clone(), by))?;
            }
            (_, "conflate") => {
                let text = "somebody waits for each request: only a command makes another obsolete";
                return Err(syn::Error::new(name.span(), text));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The class of the message `name`; none if nothing was said about it.
    pub(crate) fn class(
        self,
        name: &Ident,
        arguments: &[Argument],
        errors: &mut Errors,
    ) -> Option<Class> {
        let Self {
            constant,
            priority,
            capacity,
            overflow,
            conflated,
        } = self;
        let is_own = priority.is_some() || capacity.is_some() || overflow.is_some();
        if !is_own && constant.is_none() && conflated.is_none() {
            return None;
        }
        let source = if let Some((setting, constant)) = constant {
            if is_own {
                let text = "`class` is a whole class: its priority, capacity and overflow policy \
                    are set where it is made";
                errors.add(syn::Error::new(setting.span(), text));
            }
            Source::Constant(constant)
        } else {
            if name.unraw() == "default" {
                let text = "the class `default` is that of messages without one: rename the \
                    method, or give it a `class`";
                errors.add(syn::Error::new(name.span(), text));
            }
            Source::Own {
                priority,
                capacity,
                overflow,
            }
        };
        let conflated = conflated.map(|(_, by)| match by {
            None => Conflated::All,
            Some(by) => {
                let key = field(&by);
                if !arguments.iter().any(|argument| argument.field == key) {
                    let text = format!("`{by}` is no argument of `{name}`");
                    errors.add(syn::Error::new(by.span(), text));
                }
                Conflated::By(key)
            }
        });
        Some(Class { source, conflated })
    }
}

/// The variant that `text` names.
fn one_of(text: &LitStr, what: &str, known: &[(&str, &str)]) -> syn::Result<Ident> {
    let value = text.value();
    if let Some((_, variant)) = known.iter().find(|(name, _)| *name == value) {
        let origin = Ident::new(variant, text.span());
        return Ok(derived(&origin, variant));
    }
    let names: Vec<_> = known.iter().map(|(name, _)| format!("{name:?}")).collect();
    Err(syn::Error::new(
        text.span(),
        format!("no {what}: it is one of {}", names.join(", ")),
    ))
}

const PRIORITIES: [(&str, &str); 4] = [
    ("control", "Control"),
    ("high", "High"),
    ("normal", "Normal"),
    ("low", "Low"),
];

const OVERFLOWS: [(&str, &str); 4] = [
    ("wait", "Wait"),
    ("reject", "Reject"),
    ("drop_newest", "DropNewest"),
    ("drop_oldest", "DropOldest"),
];

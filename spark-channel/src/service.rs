//! tower in both directions: a dispatcher as a service, a service as a module.

mod dispatcher_service;
mod handler;
mod place;
mod reservations;

pub(crate) use self::reservations::Reservations;
pub use self::{
    dispatcher_service::{DispatcherService, ServiceCall},
    handler::{ServiceHandler, service_module},
};

//! A router's sub-handlers, as far as their hooks are concerned.

use std::future::Future;

use crate::NativeHandler;

/// The sub-handlers of a [`Router`](crate::Router): `()`, `&mut handler`, or a tuple of up
/// to eight such references. The trait is sealed.
#[diagnostic::on_unimplemented(
    message = "`{Self}` are not the parts of a router whose error type is `{Error}`",
    note = "parts are `()`, `&mut handler`, or a tuple of `&mut handler`",
    note = "each handler is a `NativeHandler`, and `{Error}` implements `From` of its error type"
)]
pub trait Parts<Error>: private::Sealed + Send {
    /// Starts each in order until one fails; leaves in `started` how many were told to.
    #[doc(hidden)]
    fn start(self, started: &mut usize) -> impl Future<Output = Result<(), Error>> + Send;

    /// Stops the first `started`, the last of them first.
    #[doc(hidden)]
    fn stop(self, started: usize) -> impl Future<Output = ()> + Send;
}

mod private {
    pub trait Sealed {}
}

// === impl Parts ===

impl private::Sealed for () {}

impl<E: Send> Parts<E> for () {
    fn start(self, _: &mut usize) -> impl Future<Output = Result<(), E>> + Send {
        std::future::ready(Ok(()))
    }

    fn stop(self, _: usize) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}

impl<H> private::Sealed for &mut H {}

impl<H: NativeHandler, E: From<H::Error>> Parts<E> for &mut H {
    async fn start(self, started: &mut usize) -> Result<(), E> {
        *started = 1;
        Ok(self.started().await?)
    }

    async fn stop(self, started: usize) {
        if started > 0 {
            self.stopped().await;
        }
    }
}

macro_rules! tuple {
    ($($part:ident $index:tt),+; $($reversed:tt),+) => {
        impl<$($part),+> private::Sealed for ($(&mut $part,)+) {}

        impl<$($part: NativeHandler,)+ Error> Parts<Error> for ($(&mut $part,)+)
        where
            $(Error: From<$part::Error>,)+
        {
            async fn start(self, started: &mut usize) -> Result<(), Error> {
                $(
                    // Before it starts: a part whose start fails or panics is stopped too.
                    *started = $index + 1;
                    self.$index.started().await?;
                )+
                Ok(())
            }

            async fn stop(self, started: usize) {
                $(
                    if started > $reversed {
                        self.$reversed.stopped().await;
                    }
                )+
            }
        }
    };
}

tuple!(A 0; 0);
tuple!(A 0, B 1; 1, 0);
tuple!(A 0, B 1, C 2; 2, 1, 0);
tuple!(A 0, B 1, C 2, D 3; 3, 2, 1, 0);
tuple!(A 0, B 1, C 2, D 3, E 4; 4, 3, 2, 1, 0);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5; 5, 4, 3, 2, 1, 0);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6; 6, 5, 4, 3, 2, 1, 0);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7; 7, 6, 5, 4, 3, 2, 1, 0);

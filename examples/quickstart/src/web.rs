//! What the desk looks like from outside. The modules know nothing of HTTP; this file does.

use http::StatusCode;
use serde::{Deserialize, Serialize};
use spark_channel::SparkGenericModuleDispatcher as Dispatcher;
use spark_channel::{SparkChannelCancellationToken as Token, SparkChannelError};
use spark_http::{ConfigError, ErrorAnswer, Ingress, JsonCodec, ModuleError, TextCodec};

use crate::{
    audit::Entries,
    orders::{OrderError, PlaceOrder, Receipt},
    stock::StockError,
};

/// The JSON of `POST /orders`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OrderForm {
    item: String,
    quantity: u32,
}

/// The JSON of its answer.
#[derive(Serialize)]
struct ReceiptJson {
    order: u64,
    item: String,
    quantity: u32,
    total_cents: u64,
    left_in_stock: u32,
}

pub(crate) fn ingress(
    echo: Dispatcher<String, String, Token, SparkChannelError>,
    orders: Dispatcher<PlaceOrder, Receipt, Token, OrderError>,
    audit: Dispatcher<String, Entries, Token, SparkChannelError>,
) -> Result<Ingress, ConfigError> {
    Ingress::builder()
        .module("echo", TextCodec, echo)
        .module("orders", JsonCodec::<OrderForm, ReceiptJson>::new(), orders)
        .module("audit", TextCodec, audit)
        .build()
}

// === impl PlaceOrder ===

impl TryFrom<OrderForm> for PlaceOrder {
    type Error = &'static str;

    // What fails here is answered with 400 and this text.
    fn try_from(form: OrderForm) -> Result<Self, &'static str> {
        match form.quantity {
            1..=100 => Ok(Self {
                item: form.item,
                quantity: form.quantity,
            }),
            _ => Err("quantity must be from 1 to 100"),
        }
    }
}

// === impl ReceiptJson ===

impl From<Receipt> for ReceiptJson {
    fn from(receipt: Receipt) -> Self {
        Self {
            order: receipt.order,
            item: receipt.item,
            quantity: receipt.quantity,
            total_cents: receipt.total_cents,
            left_in_stock: receipt.left_in_stock,
        }
    }
}

// === impl OrderError ===

impl ModuleError for OrderError {
    fn into_error_answer(self) -> ErrorAnswer {
        let text = self.to_string();
        match self {
            Self::Stock(StockError::UnknownItem { .. }) => {
                ErrorAnswer::new(StatusCode::UNPROCESSABLE_ENTITY, text)
            }
            Self::Stock(StockError::SoldOut { .. }) => ErrorAnswer::new(StatusCode::CONFLICT, text),
            // Late, gone or busy: the table of spark-http has an answer for each.
            Self::Stock(StockError::Call(call)) | Self::Call(call) => call.into(),
        }
    }
}

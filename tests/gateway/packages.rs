//! What is packaged with the gateway, held to what the gateway is: alerts and dashboard to its metrics,
//! manifests to its settings, the operating guide to its errors, metrics and alerts.

mod dependencies;
mod guide;
pub(crate) mod manifests;
mod monitoring;
mod settings;
pub(crate) mod shipping;

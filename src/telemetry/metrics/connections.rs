//! Metrics of refused connections and of reloaded certificates.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// From one list the enum, its words and the list of all, which must be on the page from the beginning:
/// Prometheus sees no increase in a counter that begins at one.
macro_rules! reasons {
    ($($(#[$doc:meta])* $reason:ident = $word:literal,)*) => {
        /// Why a connection is refused, in the server's own words.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Reason {
            $($(#[$doc])* $reason,)*
        }

        impl Reason {
            /// Every one.
            pub const ALL: &[Self] = &[$(Self::$reason,)*];

            /// Its word in the metrics.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$reason => $word,)*
                }
            }
        }
    };
}

reasons! {
    /// Another protocol than the TLS handshake has agreed on.
    Alpn = "alpn",
    /// `Content-Length` that is no number, is repeated, or stands beside `Transfer-Encoding`.
    BodyLength = "body_length",
    /// A body whose chunks are malformed.
    Chunk = "chunk",
    /// There are as many connections as there may be.
    Connections = "connections",
    /// There are as many of one address.
    ConnectionsPerSource = "connections_per_source",
    /// Control characters in a head.
    ControlCharacter = "control_character",
    /// The process has no descriptor left.
    Descriptors = "descriptors",
    /// Nothing was said in time.
    FirstByte = "first_byte",
    /// A header line that is none.
    HeaderLine = "header_line",
    /// Memory is short.
    Memory = "memory",
    /// A trusted proxy did not say for whom it connects.
    ProxyProtocol = "proxy_protocol",
    /// A request line that is none.
    RequestLine = "request_line",
    /// A target that is none.
    Target = "target",
    /// A target that fills the whole head.
    TargetTooLong = "target_too_long",
    /// A head that did not come in time.
    Timeout = "timeout",
    /// A handshake that failed or did not come in time.
    TlsHandshake = "tls_handshake",
    /// A head of too many bytes.
    TooLarge = "too_large",
    /// A head of too many lines.
    TooMany = "too_many",
    /// A transfer encoding that is not taken.
    TransferEncoding = "transfer_encoding",
    /// An answer that was not read.
    WriteStall = "write_stall",
}

/// Handles to the metrics of connections.
#[derive(Clone, Debug)]
pub struct ConnectionMetrics {
    refused: Family<Refused, Counter>,
    reloads: Family<ReloadResult, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refused {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReloadResult {
    result: &'static str,
}

impl ConnectionMetrics {
    /// Makes the metrics known to `registry`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            refused: Family::default(),
            reloads: Family::default(),
        };
        for reason in Reason::ALL {
            metrics.count(*reason, 0);
        }
        for result in ["loaded", "refused"] {
            let reloads = &metrics.reloads;
            reloads.get_or_create(&ReloadResult { result }).inc_by(0);
        }
        registry.register(
            "connections_refused",
            "Connections that the gateway has refused, or ended for a newcomer, by why",
            metrics.refused.clone(),
        );
        registry.register(
            "tls_reloads",
            "Times that changed certificate files were read, by result",
            metrics.reloads.clone(),
        );
        metrics
    }

    /// Counts a connection that is refused.
    pub fn refused(&self, reason: Reason) {
        self.count(reason, 1);
    }

    fn count(&self, reason: Reason, connections: u64) {
        let reason = reason.as_str();
        self.refused
            .get_or_create(&Refused { reason })
            .inc_by(connections);
    }

    /// Counts a reading of changed certificate files.
    pub fn tls_reload(&self, is_good: bool) {
        let result = if is_good { "loaded" } else { "refused" };
        self.reloads.get_or_create(&ReloadResult { result }).inc();
    }
}

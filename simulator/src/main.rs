//! The simulator as a process: a generated world on a fixed port, until Ctrl-C.

use std::io;
use std::io::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use atlas_simulator::{
    ApiKey, BucketSize, CLIENT_ID, CLIENT_SECRET, PRIVATE_KEY, PUBLIC_KEY, Rules, ServiceAccount,
    Settings, Simulator, World, system_clock,
};
use clap::Parser;

/// A local MongoDB Atlas that lists generated X.509 certificates.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Where to listen; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:8090")]
    listen: SocketAddr,
    /// The id of the one project, 24 lower-case hex digits
    #[arg(long, default_value = "32b6e34b3d91647abb20e7b8")]
    project: String,
    /// How many users the project has: user1, user2, ...
    #[arg(long, default_value_t = 10)]
    users: u32,
    /// How many certificates each user has
    #[arg(long, default_value_t = 2)]
    certificates: u32,
    /// What the serial numbers are generated from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How long each answer is held back: 50ms, 2s
    #[arg(long, default_value = "0ms", value_parser = duration)]
    latency: Duration,
    /// How many calls the bucket of the project holds when it is full
    #[arg(long, default_value_t = BucketSize::X509.capacity)]
    bucket: u64,
    /// The client id of the service account
    #[arg(long, default_value = CLIENT_ID)]
    client_id: String,
    /// Its secret
    #[arg(long, default_value = CLIENT_SECRET)]
    client_secret: String,
    /// The public key of the API key
    #[arg(long, default_value = PUBLIC_KEY)]
    public_key: String,
    /// Its private key
    #[arg(long, default_value = PRIVATE_KEY)]
    private_key: String,
}

#[tokio::main]
async fn main() -> io::Result<()> {
    let arguments = Arguments::parse();
    let simulator = Simulator::start(settings(&arguments)).await?;
    io::stdout().write_all(greeting(&arguments, &simulator.base_url()).as_bytes())?;
    tokio::signal::ctrl_c().await?;
    writeln!(
        io::stdout(),
        "\nanswered {} requests, good-bye",
        simulator.all_calls()
    )
}

fn settings(arguments: &Arguments) -> Settings {
    let now = system_clock();
    let mut world = World::seeded(now(), arguments.seed);
    let mut project = world.project(&arguments.project);
    for number in 1..=arguments.users {
        project
            .user(&format!("user{number}"))
            .certificates(arguments.certificates);
    }
    let Arguments {
        client_id,
        client_secret,
        public_key,
        private_key,
        ..
    } = arguments;
    let rules = Rules {
        service_accounts: vec![ServiceAccount::new(client_id, client_secret)],
        api_keys: vec![ApiKey::new(public_key, private_key)],
        bucket: BucketSize {
            capacity: arguments.bucket,
            ..BucketSize::X509
        },
        latency: arguments.latency,
        ..Rules::default()
    };
    // No test asks this process what it saw, so it keeps little.
    Settings {
        listen: arguments.listen,
        now,
        rules,
        keep_requests: 1,
        ..Settings::with_world(world)
    }
}

fn greeting(arguments: &Arguments, url: &str) -> String {
    let Arguments {
        project,
        users,
        certificates,
        latency,
        bucket,
        ..
    } = arguments;
    let Arguments {
        client_id,
        client_secret,
        public_key,
        private_key,
        ..
    } = arguments;
    format!(
        "\
A local Atlas listens on {url}

  project          {project}
  users            user1 to user{users}, {certificates} certificates each
  service account  {client_id}
                   {client_secret}
  API key          {public_key}
                   {private_key}
  bucket           {bucket} calls
  latency          {latency:?}

Ask it:

  curl --digest --user {public_key}:{private_key} \\
    -H 'Accept: application/vnd.atlas.2023-01-01+json' \\
    '{url}/api/atlas/v2/groups/{project}/databaseUsers/user1/certs?pretty=true'

Ctrl-C ends it.
"
    )
}

/// Reads `50ms` or `2s`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a duration such as 50ms or 2s");
    let millis = text.strip_suffix("ms").map(|number| (number, 1));
    let seconds = text.strip_suffix('s').map(|number| (number, 1_000));
    let (number, factor) = millis.or(seconds).ok_or_else(wrong)?;
    let number: u32 = number.parse().map_err(|_| wrong())?;
    Ok(Duration::from_millis(u64::from(number) * factor))
}

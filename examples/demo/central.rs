//! Two gateways in front of one Atlas, and the trail of both in one PostgreSQL.

use std::error::Error;
use std::fs;
use std::path::Path;

use atlas_cert_gateway::app::App;
use atlas_cert_gateway::audit::database;

use crate::postgres::Postgres;
use crate::{Demo, OPERATOR, certs, path, send};

const USERS: [&str; 3] = ["payments-api", "payments-batch", "root"];

pub(crate) async fn demonstrate() -> Result<(), Box<dyn Error>> {
    let mut demo = Demo::prepare().await?;
    let Some(postgres) = Postgres::start_empty().await else {
        return Err("PostgreSQL is not here; Debian has it: apt-get install postgresql".into());
    };
    // As `audit database prepare` makes the tables, and as their owner says who may do what.
    postgres.execute(&database::script()).await;
    postgres
        .execute("GRANT audit_shipper TO gateway_audit; GRANT audit_auditor TO auditor")
        .await;
    let token = demo.token("payments-api")?;
    let mut apps = Vec::new();
    for name in ["gateway-1", "gateway-2"] {
        let app = demo.start(&configuration(&demo, name, &postgres)).await?;
        for user in USERS {
            let what = format!("GET {}", path(user));
            send(app.address(), &what, Some((&token, ""))).await?;
        }
        apps.push(app);
    }
    let lookups = i64::try_from(apps.len() * USERS.len())?;
    let shipped = "SELECT count(*) FROM audit.record WHERE kind = 'lookup'";
    while postgres.number(shipped).await < lookups {
        demo.pause().await;
    }
    let auditor = demo.directory.path().join("auditor.toml");
    let url = postgres.url("auditor");
    fs::write(&auditor, format!("[audit.database]\nurl = \"{url}\"\n"))?;
    introduce(&demo, &apps, &postgres, &auditor)?;
    demo.is_to_end().await;
    for app in apps {
        app.stop().await;
    }
    demo.end();
    Ok(())
}

fn configuration(demo: &Demo, name: &str, postgres: &Postgres) -> String {
    let usual = demo.configuration(&demo.directory.path().join(name));
    let url = postgres.url("gateway_audit");
    format!(
        r#"{usual}
replica = "{name}"

[audit.database]
url = "{url}"
interval = "100ms"
{OPERATOR}"#
    )
}

fn introduce(
    demo: &Demo,
    apps: &[App],
    postgres: &Postgres,
    auditor: &Path,
) -> Result<(), Box<dyn Error>> {
    println!("A local Atlas          {}", demo.atlas.base_url());
    for (app, number) in apps.iter().zip(1..) {
        let (address, admin) = (app.address(), app.admin_address());
        println!("gateway-{number}              http://{address}  (operators: http://{admin})");
    }
    println!("PostgreSQL             {}", postgres.url("auditor"));
    println!("  for its readers      {}", auditor.display());
    println!(
        "\nEach gateway has answered {} lookups. Paste these into another terminal:\n",
        USERS.len()
    );
    println!("export TOKEN={}", demo.token("payments-api")?);
    println!("export OPERATOR={}\n", demo.token("operator")?);
    for app in apps {
        let url = certs(app, "payments-api");
        println!("curl -si -H \"Authorization: Bearer $TOKEN\" '{url}'");
    }
    println!("\n# the records of both, by way of either");
    for app in apps {
        let url = format!("http://{}/audit/lookups?scope=fleet", app.admin_address());
        println!("curl -s -H \"Authorization: Bearer $OPERATOR\" '{url}'");
    }
    println!(
        "\n# from the database: what was asked, how often, and whether it is what was written"
    );
    for command in [
        "search --username payments-api",
        "usage --by username",
        "verify",
    ] {
        println!(
            "cargo run --quiet -- audit {command} --database --config {}",
            auditor.display()
        );
    }
    println!("\n(Ctrl-C ends)");
    Ok(())
}

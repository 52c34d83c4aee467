//! Several replicas in front of one Atlas, which share one Valkey or Redis.

use std::error::Error;

use atlas_cert_gateway::app::App;

use crate::engine::Engine;
use crate::{Demo, OPERATOR, PROJECT, certs, path, send};

const USER: &str = "payments-api";

pub(crate) async fn demonstrate(replicas: u8) -> Result<(), Box<dyn Error>> {
    let mut demo = Demo::prepare().await?;
    let Some(engine) = Engine::start().await else {
        return Err(
            "neither Valkey nor Redis is here; Debian has it: apt-get install redis-server".into(),
        );
    };
    let mut apps = Vec::new();
    for number in 1..=replicas {
        let configuration = configuration(&demo, number, replicas, &engine);
        let app = demo.start(&configuration).await?;
        demo.until_shared(&app).await?;
        apps.push(app);
    }
    println!("A local Atlas          {}", demo.atlas.base_url());
    println!("The engine             {}", engine.url());
    for (app, number) in apps.iter().zip(1..) {
        let (address, admin) = (app.address(), app.admin_address());
        println!("gateway-{number}              http://{address}  (operators: http://{admin})");
    }
    share(&demo, &apps).await?;
    purge(&demo, &apps).await?;
    print_commands(&demo, &apps)?;
    demo.is_to_end().await;
    for app in apps {
        app.stop().await;
    }
    demo.end();
    Ok(())
}

fn configuration(demo: &Demo, number: u8, replicas: u8, engine: &Engine) -> String {
    let name = format!("gateway-{number}");
    let usual = demo.configuration(&demo.directory.path().join(&name));
    let (url, directory) = (engine.url(), demo.directory.path().display());
    format!(
        r#"{usual}
replica = "{name}"

[fleet]
name = "demo"
replicas = {replicas}
url = "{url}"
key_files = ["{directory}/fleet"]
silence = "1s"
{OPERATOR}"#
    )
}

impl Demo {
    /// Waits until a replica shares with the others.
    async fn until_shared(&self, app: &App) -> Result<(), Box<dyn Error>> {
        while send(app.admin_address(), "GET /readyz", None)
            .await?
            .contains("\"fleet\"")
        {
            self.pause().await;
        }
        Ok(())
    }
}

/// Shows that what one replica has fetched is adopted by the others.
async fn share(demo: &Demo, apps: &[App]) -> Result<(), Box<dyn Error>> {
    println!("\nThe certificates of {USER}, looked up at each:\n");
    look_up_at_each(demo, apps).await?;
    println!("  calls to Atlas       {}", demo.atlas.certificate_calls());
    Ok(())
}

/// Shows that a purge at one replica is one at all.
async fn purge(demo: &Demo, apps: &[App]) -> Result<(), Box<dyn Error>> {
    let first = apps.first().expect("there are two or more");
    let operator = demo.token("operator")?;
    let body = format!("{{\"groupId\":\"{PROJECT}\"}}");
    let sent = Some((&*operator, &*body));
    let answer = send(first.admin_address(), "POST /cache/purge", sent).await?;
    let (_, purged) = answer.split_once("\r\n\r\n").unwrap_or_default();
    println!(
        "\nThe project, purged at gateway-1:\n\n  {}\n",
        purged.trim()
    );
    println!("And looked up at each again:\n");
    look_up_at_each(demo, apps).await?;
    println!("  calls to Atlas       {}", demo.atlas.certificate_calls());
    Ok(())
}

/// Prints the `Cache-Status` of each answer.
async fn look_up_at_each(demo: &Demo, apps: &[App]) -> Result<(), Box<dyn Error>> {
    let (token, what) = (demo.token(USER)?, format!("GET {}", path(USER)));
    for (app, number) in apps.iter().zip(1..) {
        let answer = send(app.address(), &what, Some((&token, ""))).await?;
        let mut lines = answer.lines();
        let status = lines.find_map(|line| line.strip_prefix("cache-status: "));
        let status = status.ok_or("an answer has no Cache-Status")?;
        println!("  gateway-{number}            {status}");
    }
    Ok(())
}

fn print_commands(demo: &Demo, apps: &[App]) -> Result<(), Box<dyn Error>> {
    println!("\nPaste these into another terminal:\n");
    println!("export TOKEN={}", demo.token(USER)?);
    println!("export OPERATOR={}\n", demo.token("operator")?);
    for app in apps {
        let url = certs(app, USER);
        println!("curl -si -H \"Authorization: Bearer $TOKEN\" '{url}'");
    }
    println!("\n# what each knows of the list, and what the engine has");
    for app in apps {
        let query = format!("groupId={PROJECT}&username={USER}");
        let url = format!("http://{}/cache/explain?{query}", app.admin_address());
        println!("curl -s -H \"Authorization: Bearer $OPERATOR\" '{url}'");
    }
    println!("\n# a purge at any of them is one at all");
    for app in apps {
        let url = format!("http://{}/cache/purge", app.admin_address());
        println!(
            "curl -s -H \"Authorization: Bearer $OPERATOR\" '{url}' -d '{{\"groupId\":\"{PROJECT}\"}}'"
        );
    }
    println!("\n(Ctrl-C ends)");
    Ok(())
}

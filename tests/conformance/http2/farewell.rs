//! The end of a connection whose caller still sends: it learns why, and no reset of the kernel overtakes that.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{DATA, PREFACE, connect, frame, settings};
use crate::frames::GOAWAY;
use crate::world::World;

#[tokio::test]
async fn after_an_error_what_still_comes_is_read_and_forgotten() {
    let world = World::new().await;
    for _ in 0..20 {
        let mut stream = connect(&world).await;
        // No stream has the number 0.
        let bad = frame(DATA, 0, 0, b"x");
        stream
            .write_all(&[PREFACE, &settings(&[]), &bad].concat())
            .await
            .unwrap();
        let mut said = Vec::new();
        // Until the gateway has closed its half, and then some more.
        stream.read_to_end(&mut said).await.unwrap();
        for _ in 0..20 {
            stream.write_all(&bad.repeat(1_000)).await.unwrap();
            tokio::task::yield_now().await;
        }
        let mut kinds = Vec::new();
        let mut rest = &said[..];
        while let Some((head, behind)) = rest.split_at_checked(9) {
            kinds.push(head[3]);
            let length = usize::from(head[1]) << 8 | usize::from(head[2]);
            rest = &behind[length..];
        }
        assert_eq!(kinds.last(), Some(&GOAWAY), "{kinds:?}");
    }
}

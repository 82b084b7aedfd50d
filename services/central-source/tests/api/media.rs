//! Media: up, referred to, down again.

use crate::common::World;
use httt_feed::Digest;
use serde_json::json;

#[tokio::test]
async fn a_file_goes_up_is_referred_to_and_comes_down() {
    let world = World::new(vec![]).await;
    let central = world.start().await;
    let author = central.log_in("bientap").await;
    let data: Vec<u8> = (0..700_000_u32).map(|number| (number % 251) as u8).collect();
    let sha256 = Digest::of(&data).to_string();
    let media = json!({
        "sha256": sha256, "size": data.len(), "content_type": "audio/mpeg", "name": "a.mp3", "duration_ms": 60_000
    });
    let content = json!({ "title": "Có tiếng", "kind": "audio", "media": media });

    let refused = author.post_refused("/bulletins", json!({ "content": content })).await;
    assert_eq!(refused, (422, "media-not-held".to_owned()));
    let (status, stored) = author.upload(data.clone()).await;
    assert_eq!((status.as_u16(), &stored), (200, &json!({ "sha256": sha256, "size": data.len() })));
    assert_eq!(author.upload(data.clone()).await.0.as_u16(), 200, "twice does no harm");
    let mut other = content.clone();
    other["media"]["size"] = json!(5);
    let refused = author.post_refused("/bulletins", json!({ "content": other })).await;
    assert_eq!(refused, (422, "media-size-differs".to_owned()));
    let id = author.draft(content).await;
    author.post(&format!("/bulletins/{id}/submit"), json!({})).await;

    let url = central.url(&format!("/api/v1/media/{sha256}"));
    let whole = central.client().get(&url).bearer(author.token()).send().await.expect("file");
    assert_eq!(Digest::of(&whole.body).to_string(), sha256);
    assert_eq!(whole.headers["content-type"], "application/octet-stream");
    assert_eq!(whole.headers["x-content-type-options"], "nosniff");
    let part = central.client().get(&url).bearer(author.token()).range(300_000, 5).send().await.expect("part");
    assert_eq!((part.status.as_u16(), &part.body[..]), (206, &data[300_000..300_005]));
    assert_eq!(part.headers["content-range"], format!("bytes 300000-300004/{}", data.len()));
    let beyond = central.client().get(&url).bearer(author.token()).range(700_000, 5).send_any().await.expect("answer");
    assert_eq!(beyond.status.as_u16(), 416);

    let (status, error) = author.upload(vec![0; 1_000_001]).await;
    assert_eq!((status.as_u16(), &error["error"]["code"]), (413, &json!("too_large")));
    let reader = central.log_in("kiemtra").await;
    assert_eq!(reader.upload(vec![1]).await.0.as_u16(), 403);
    central.stop().await;
}

#[tokio::test]
async fn a_full_store_says_so_and_keeps_what_it_has() {
    let world = World::new(vec![]).await;
    let config = world.path("central-source.toml");
    let text = std::fs::read_to_string(&config).expect("configuration");
    let small = "max_file_bytes = 100000\nmax_store_bytes = 150000";
    std::fs::write(&config, text.replace("max_file_bytes = 1000000", small)).expect("write");
    let central = world.start().await;
    let author = central.log_in("bientap").await;
    let (status, stored) = author.upload(vec![1; 100_000]).await;
    assert_eq!(status.as_u16(), 200, "{stored}");
    let (status, error) = author.upload(vec![2; 100_000]).await;
    assert_eq!((status.as_u16(), &error["error"]["code"]), (507, &json!("store_full")));
    let said = error["error"].to_string();
    assert!(said.contains("150000 byte"), "{said}");
    let sha256 = stored["sha256"].as_str().expect("digest");
    let url = central.url(&format!("/api/v1/media/{sha256}"));
    assert_eq!(central.client().get(&url).bearer(author.token()).send().await.expect("kept").body.len(), 100_000);
    central.stop().await;
}

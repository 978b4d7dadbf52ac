use millrace::{Options, Ring};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let ring = Ring::create("greetings", &Options::new().slots(64))?;
    ring.producer()?.send(b"hello, whoever you are")?;
    let mut consumer = ring.consumer()?;
    let message = consumer.next()?; // a slice of the ring, released when it is dropped
    println!("{}", String::from_utf8_lossy(&message));
    Ok(())
}

package io.millrace;

/**
 * A received copy of a message.
 *
 * @param position where it stood in the ring
 * @param deliveries 1 for the first delivery, more when it was given back before
 * @param payload its bytes
 */
public record Message(long position, int deliveries, byte[] payload) {
}

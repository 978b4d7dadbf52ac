package io.millrace;

/** The message is longer than the ring, or this client, can carry. */
public final class MessageTooLargeException extends MillraceException {
    private static final long serialVersionUID = 1L;

    public MessageTooLargeException(String message) {
        super(message);
    }
}

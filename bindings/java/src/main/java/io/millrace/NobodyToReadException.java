package io.millrace;

/** The ring is full and its last consumer is gone. */
public final class NobodyToReadException extends MillraceException {
    private static final long serialVersionUID = 1L;

    public NobodyToReadException(String message) {
        super(message);
    }
}

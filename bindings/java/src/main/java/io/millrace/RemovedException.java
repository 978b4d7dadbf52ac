package io.millrace;

/** The ring was removed by force. */
public final class RemovedException extends MillraceException {
    private static final long serialVersionUID = 1L;

    public RemovedException(String message) {
        super(message);
    }
}

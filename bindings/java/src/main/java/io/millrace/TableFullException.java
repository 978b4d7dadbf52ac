package io.millrace;

/** Every entry of the participant table belongs to somebody who is alive. */
public final class TableFullException extends MillraceException {
    private static final long serialVersionUID = 1L;

    public TableFullException(String message) {
        super(message);
    }
}

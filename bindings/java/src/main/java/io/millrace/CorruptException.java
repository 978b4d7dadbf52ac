package io.millrace;

/** A shared word fits no case of the format: the segment was damaged while it was in use. */
public final class CorruptException extends MillraceException {
    private static final long serialVersionUID = 1L;

    public CorruptException(String message) {
        super(message);
    }
}

package io.millrace;

/** The time ran out behind a participant that is alive and has not moved for a while. */
public final class StalledException extends MillraceException {
    private static final long serialVersionUID = 1L;

    public StalledException(String message) {
        super(message);
    }
}

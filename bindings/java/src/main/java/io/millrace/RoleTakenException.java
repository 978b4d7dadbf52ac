package io.millrace;

/** The producer or consumer role of an SPSC ring belongs to somebody who is alive. */
public final class RoleTakenException extends MillraceException {
    private static final long serialVersionUID = 1L;

    public RoleTakenException(String message) {
        super(message);
    }
}

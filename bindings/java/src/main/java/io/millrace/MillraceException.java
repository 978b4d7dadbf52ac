package io.millrace;

/** Base of everything this library throws by itself. */
public class MillraceException extends RuntimeException {
    private static final long serialVersionUID = 1L;

    public MillraceException(String message) {
        super(message);
    }

    public MillraceException(String message, Throwable cause) {
        super(message, cause);
    }
}

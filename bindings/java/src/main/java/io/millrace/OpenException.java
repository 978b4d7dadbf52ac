package io.millrace;

/** A file that cannot be opened as a segment, and why. */
public final class OpenException extends MillraceException {
    private static final long serialVersionUID = 1L;

    /** What did not match, in the order in which it is checked. */
    public enum Reason {
        /** The name is not one a ring may have. */
        BAD_NAME,
        /** There is no such file. */
        NOT_FOUND,
        /** The permissions do not allow it. */
        PERMISSION,
        /** A link, directory, device, or pipe. */
        NOT_REGULAR,
        /** Shorter than a header. */
        TOO_SHORT,
        /** Not a segment at all. */
        BAD_MAGIC,
        /** Written on a machine of the other byte order. */
        BYTE_ORDER,
        /** Another version of the format. */
        VERSION,
        /** Same version, different tables. */
        LAYOUT,
        /** The header was damaged. */
        CHECKSUM,
        /** Its creator has not finished. */
        NOT_READY,
        /** A field is beyond its limit, or a reserved byte is not zero. */
        LIMITS,
        /** Offsets or sizes that do not follow from the options. */
        GEOMETRY,
        /** A kind of memory that Java cannot reach (System V). */
        UNSUPPORTED,
        /** The file is shorter than the segment. */
        TRUNCATED
    }

    private final Reason reason;

    OpenException(Reason reason, String message) {
        super(message);
        this.reason = reason;
    }

    public Reason reason() {
        return reason;
    }
}

package io.millrace;

/** Everything was received and no producer is left. */
public final class EndOfStreamException extends MillraceException {
    private static final long serialVersionUID = 1L;
    private final boolean died;

    EndOfStreamException(boolean died) {
        super(died ? "end of stream: the last producer died" : "end of stream");
        this.died = died;
    }

    /** Whether the producer session that ended last ended by death. */
    public boolean producerDied() {
        return died;
    }
}

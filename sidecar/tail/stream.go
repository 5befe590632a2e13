package tail

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/loglineos/loglineos/sidecar/span"
)

// startStream starts replication from lsn, 0 for where the slot is. From then on the bookkeeper answers the
// server, also while nobody reads yet.
func (s *session) startStream(ctx context.Context, lsn pglogrepl.LSN) error {
	err := pglogrepl.StartReplication(ctx, s.replication, s.config.Slot, lsn, pglogrepl.StartReplicationOptions{
		Mode: pglogrepl.LogicalReplication,
		PluginArgs: []string{"proto_version '1'", "binary 'true'",
			"publication_names '" + strings.ReplaceAll(s.config.Publication, "'", "''") + "'"},
	})
	if err != nil {
		s.awaitReady(ctx, err)
		return fmt.Errorf("start replication: %w", err)
	}
	return nil
}

// awaitReady reads on to the end of the server's answer after a refusal, where the driver stops: the next
// command would take that end for its own answer, and so on.
func (s *session) awaitReady(ctx context.Context, err error) {
	var refusal *pgconn.PgError
	for errors.As(err, &refusal) {
		message, err := s.replication.ReceiveMessage(ctx)
		if _, isReady := message.(*pgproto3.ReadyForQuery); isReady || err != nil {
			return // what is wrong with the connection, the next command tells
		}
	}
}

// stream decodes what the slot sends until a fault or the end of ctx, but for rows that done sees: those were
// handed over already. The status goes out from the bookkeeper, so that a long transaction or a blocked
// handler never starves it.
func (s *session) stream(ctx context.Context, done span.Snapshot) error {
	// A context that can end costs a goroutine for each message; a deadline in the past ends a read as well.
	stop := context.AfterFunc(ctx, func() { _ = s.replication.Conn().SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	decoder := newDecoder()
	var transaction *Position
	for {
		s.waiting.Store(time.Now().UnixNano())
		message, err := s.replication.ReceiveMessage(context.Background())
		s.waiting.Store(0) // a handler that blocks is no silence of the server
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("receive from the slot: %w", err)
		}
		data, ok := message.(*pgproto3.CopyData)
		if !ok {
			if refusal, ok := message.(*pgproto3.ErrorResponse); ok {
				return fmt.Errorf("stream from the slot: %w", pgconn.ErrorResponseToPgError(refusal))
			}
			continue
		}
		switch raw := data.Data; {
		case len(raw) > 0 && raw[0] == pglogrepl.PrimaryKeepaliveMessageByteID:
			if err := s.keepalive(raw[1:], transaction == nil); err != nil {
				return err
			}
		case len(raw) >= walHeader && raw[0] == pglogrepl.XLogDataByteID:
			if transaction, err = s.apply(ctx, decoder, raw[walHeader:], transaction, done); err != nil {
				return err
			}
		default:
			return fmt.Errorf("decode WAL data: a message of %d bytes is none that is known", len(raw))
		}
	}
}

// walHeader is what stands before a pgoutput message: kind, start, end of the WAL, and the server's time.
const walHeader = 1 + 8 + 8 + 8

func (s *session) keepalive(raw []byte, outside bool) error {
	if len(raw) != 8+8+1 { // end of the WAL, time, whether it wants an answer
		return fmt.Errorf("decode keepalive: it has %d bytes", len(raw))
	}
	if outside {
		end := binary.BigEndian.Uint64(raw)
		s.progress.Idle(pglogrepl.LSN(end))
		s.received.Store(end)
	}
	if raw[16] != 0 {
		select {
		case s.replyNow <- struct{}{}:
		default: // one is waiting already
		}
	}
	return nil
}

// apply takes one pgoutput message and returns the transaction that is open after it.
func (s *session) apply(ctx context.Context, d *decoder, raw []byte, open *Position,
	done span.Snapshot) (*Position, error) {
	event, err := d.decode(raw)
	if err != nil {
		return nil, err
	}
	switch event.kind {
	case eventBegin:
		s.writer = event.writer
		return s.progress.Begin(), nil
	case eventCommit:
		if open != nil {
			open.close(event.end)
			s.received.Store(uint64(event.end))
		}
		return nil, nil
	case eventRow:
		s.dirty.Store(true)
		if s.isImported(event.row) || done.Sees(event.row.Xact) {
			return open, nil
		}
		if open == nil {
			return nil, fmt.Errorf("decode insert: row %s is outside of a transaction", event.row.ID)
		}
		if err := s.give(ctx, event.row, open); err != nil {
			return nil, err
		}
	}
	return open, nil
}

// isImported reports whether a row of the stream came in through the import door. Of those that did not, the
// transaction is the one that the stream brings.
func (s *session) isImported(row *span.Published) bool {
	isOfHere := row.Xact > s.epoch.xact && uint32(row.Xact) == s.writer
	return !row.AcceptedAt.After(s.epoch.until) && !isOfHere
}

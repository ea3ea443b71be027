package ops

import (
	"context"
	"encoding/binary"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"attachd/server/api"
	"attachd/server/webhooks"
	"attachd/store"
)

// hooks is the side of webhooks that requests see: it enqueues events and delivers them.
type hooks struct {
	receiver   webhooks.Receiver
	sender     *webhooks.Sender
	courier    *webhooks.Courier
	deliveries *prometheus.CounterVec
}

func (s *Service) newHooks(receiver webhooks.Receiver) *hooks {
	h := &hooks{
		receiver: receiver,
		sender:   webhooks.NewSender(receiver, s.Now, "attachd/"+s.Version),
		deliveries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "attachd_webhook_deliveries_total", Help: "Attempts to deliver an event, by outcome: delivered, failed (it is tried again) or dead (given up)."},
			[]string{"outcome"}),
	}
	for _, outcome := range webhooks.Outcomes {
		h.deliveries.WithLabelValues(outcome) // show the counter also while it is zero
	}
	h.courier = webhooks.NewCourier(webhooks.Options{
		Outbox: s.Store, Sender: h.sender, Render: renderEvent, RetryFor: s.WebhookRetryFor, Now: s.Now, Log: s.Log,
		Clock: func(ctx context.Context) (time.Time, bool, time.Duration, error) {
			clock, err := s.Clock.Read(ctx)
			return clock.Trusted, clock.Settled, clock.Age, err
		},
		Count: func(outcome string) { h.deliveries.WithLabelValues(outcome).Inc() },
	})
	return h
}

func (h *hooks) metrics(outbox store.Outbox) []prometheus.Collector {
	return []prometheus.Collector{h.deliveries,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "attachd_webhook_pending", Help: "Events that wait to be delivered."},
			func() float64 { events, _ := outbox.OutboxSize(); return float64(events) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "attachd_webhook_dead", Help: "Events that were given up and are kept for a while."},
			func() float64 { _, dead := outbox.OutboxSize(); return float64(dead) }),
	}
}

// WithEvents returns a context in which a change enqueues events about attachments for
// the receiver of webhooks. Their actor is that of e, the entry in the audit log.
func WithEvents(ctx context.Context, e *store.Entry) context.Context {
	return store.WithOutbox(ctx, store.Origin{Time: e.Time, UserID: e.UserID, ActorID: e.ActorID, Operator: e.Operator})
}

// eventBody is an event as the receiver gets it.
type eventBody struct {
	Type      string    `json:"type"`
	Timestamp string    `json:"timestamp"`
	Data      eventData `json:"data"`
}

type eventData struct {
	Attachment any        `json:"attachment"`
	Parent     parentBody `json:"parent"`
	Space      string     `json:"space"`
	Actor      teller     `json:"actor"`
}

type parentBody struct {
	Kind string    `json:"kind"`
	ID   uuid.UUID `json:"id"`
}

// teller is the actor of an event, as JSON.
type teller struct {
	UserID   *uuid.UUID `json:"user_id"`
	ActingID *uuid.UUID `json:"acting_id,omitempty"` // the superadmin who acted for the user
	Operator bool       `json:"operator,omitempty"`
}

func describeEvent(e store.Event) eventBody {
	return eventBody{
		Type:      string(e.Type),
		Timestamp: e.Time.UTC().Format("2006-01-02T15:04:05.000Z"),
		Data: eventData{
			Attachment: api.RenderAttachment(e.Attachment),
			Parent:     parentBody{e.Attachment.Parent.Kind.String(), e.Attachment.Parent.ID},
			Space:      e.Space,
			Actor:      teller{api.OptionalID(e.Origin.UserID), api.OptionalID(e.Origin.ActorID), e.Origin.Operator},
		},
	}
}

func renderEvent(e store.Event) (webhooks.Message, error) {
	body, err := api.Encode(describeEvent(e))
	return webhooks.Message{ID: e.ID.String(), Body: body}, err
}

// WebhookState is the state of the delivery of webhooks.
type WebhookState struct {
	URL         string  `json:"url"` // empty when there is no receiver
	Pending     int64   `json:"pending"`
	Oldest      *string `json:"oldest"` // time of the oldest of these
	Dead        int64   `json:"dead"`
	LastSuccess *string `json:"last_success"` // since the server started
	LastFailure *string `json:"last_failure"`
	LastError   string  `json:"last_error"`
}

// WebhookState answers GET /webhooks.
func (s *Service) WebhookState(w *api.Response, rq *api.Request, sc api.Scope) error {
	var state WebhookState
	state.Pending, state.Dead = s.Store.OutboxSize()
	first, err := s.Store.Events(rq.Context(), 0, 1)
	if err != nil {
		return err
	}
	if len(first) > 0 {
		state.Oldest = api.OptionalTime(first[0].Queued)
	}
	if s.webhooks != nil {
		status := s.webhooks.courier.Status()
		state.URL = s.webhooks.receiver.URL
		state.LastSuccess, state.LastFailure = api.OptionalTime(status.LastSuccess), api.OptionalTime(status.LastFailure)
		state.LastError = status.LastError
	}
	return rq.Answer(w, http.StatusOK, state)
}

// deadLetterBody is an event that was given up, as the API answers it.
type deadLetterBody struct {
	ID      uuid.UUID `json:"id"` // of the event
	GivenUp string    `json:"given_up"`
	Reason  string    `json:"reason"`
	Event   eventBody `json:"event"` // as the receiver would have got it
}

// DeadLetters lists the events that were given up, in that order.
func (s *Service) DeadLetters(w *api.Response, rq *api.Request, sc api.Scope) error {
	return api.List[store.DeadLetter]{
		Fetch: func(after []byte, n int) ([]store.DeadLetter, error) {
			var seq uint64
			if len(after) > 0 {
				if len(after) != 8 {
					return nil, api.BadCursor()
				}
				seq = binary.BigEndian.Uint64(after)
			}
			return s.Store.DeadLetters(rq.Context(), seq, n)
		},
		Key: func(l store.DeadLetter) []byte { return binary.BigEndian.AppendUint64(nil, l.Seq) },
		Row: api.Rendered(func(l store.DeadLetter) any {
			return deadLetterBody{l.Event.ID, api.Timestamp(l.Time), l.Reason, describeEvent(l.Event)}
		}),
	}.Answer(w, rq)
}

// Redeliver puts all dead letters back into the outbox, in batches so that other
// changes wait only briefly.
func (s *Service) Redeliver(w *api.Response, rq *api.Request, sc api.Scope) error {
	if s.webhooks == nil {
		return noReceiver()
	}
	const atATime = 1000
	_, left := s.Store.OutboxSize()
	answer := struct {
		Events int `json:"events"`
	}{}
	for left > 0 {
		moved, err := s.Store.Redeliver(rq.Context(), s.Now(), int(min(left, atATime)))
		if err != nil {
			return err
		}
		if moved == 0 {
			break
		}
		answer.Events += moved
		left -= int64(moved)
	}
	return rq.Answer(w, http.StatusOK, answer)
}

func noReceiver() error {
	return api.Conflict("No receiver of webhooks is configured (webhooks.url).")
}

// PingReport is the result of a ping.
type PingReport struct {
	Delivered bool    `json:"delivered"`
	Error     string  `json:"error"` // why the ping was not delivered
	Seconds   float64 `json:"seconds"`
}

// PingReceiver sends the receiver an event without content, at once and without
// retries.
func (s *Service) PingReceiver(w *api.Response, rq *api.Request, sc api.Scope) error {
	if s.webhooks == nil {
		return noReceiver()
	}
	now := s.Now()
	body, err := api.Encode(struct {
		Type      string   `json:"type"`
		Timestamp string   `json:"timestamp"`
		Data      struct{} `json:"data"`
	}{Type: "webhook.ping", Timestamp: api.Timestamp(now)})
	if err != nil {
		return err
	}
	began := time.Now()
	err = s.webhooks.sender.Send(rq.Context(), webhooks.Message{ID: s.IDs.New(now).String(), Body: body})
	report := PingReport{Delivered: err == nil, Seconds: time.Since(began).Seconds()}
	if err != nil {
		report.Error = err.Error()
	}
	return rq.Answer(w, http.StatusOK, report)
}

package ops

import (
	"cmp"
	"net/http"
	"slices"
	"sync"
	"time"

	"attachd/server/api"
	"attachd/server/upkeep"
	"attachd/store"
)

// Stats answers with the server's state. Its cost does not depend on the number of
// attachments: totals come from the last count, with its time.
func (s *Service) Stats(w *api.Response, rq *api.Request, sc api.Scope) error {
	counted, err := s.counted(rq.Context())
	if err != nil {
		return err
	}
	room, err := s.Contents.Capacity(rq.Context())
	if err != nil {
		return err
	}
	status, err := upkeep.ReadStatus(rq.Context(), s.Store, s.Now())
	if err != nil {
		return err
	}
	trash, oldest, err := s.Store.TrashSize(rq.Context())
	if err != nil {
		return err
	}
	now := s.Now()
	hours, err := s.hoursOfAll(rq.Context(), now)
	if err != nil {
		return err
	}
	return rq.Answer(w, http.StatusOK, statsBody{
		AsOf:          api.Timestamp(counted.at),
		Version:       s.Version,
		UptimeSeconds: int64(now.Sub(s.began).Seconds()),
		Disk:          diskBody{room.Free, room.Total, s.Contents.ReserveOf(room)},
		Storage:       s.storage(),
		Attachments:   usageBody(counted.Attachments),
		Contents:      usageBody(counted.Contents),
		Trash:         trashBody{usageBody(trash), api.OptionalTime(oldest), int64(s.TrashKeep.Seconds())},
		BytesSaved:    counted.Attachments.Bytes - counted.Contents.Bytes,
		ByType:        byType(counted.ByType),
		BySize:        bySize(counted.BySize),
		Hours:         hours,
		UploadSlots:   slotsBody{s.Slots.InUse(), s.Slots.Max()},
		Scrub:         s.scrubStats(),
		LastCheck:     api.OptionalTime(status.LastCheck),
		LastGC:        api.OptionalTime(status.LastGC),
		LastBackup:    api.OptionalTime(status.LastBackup),
		Damaged:       s.Contents.Damaged(),
		InDatabase:    len(s.Damage()),
	})
}

type statsBody struct {
	AsOf          string               `json:"as_of"`
	Version       string               `json:"version"`
	UptimeSeconds int64                `json:"uptime_seconds"`
	Disk          diskBody             `json:"disk"`
	Storage       upkeep.StorageStatus `json:"storage"`
	Attachments   usageBody            `json:"attachments"`
	Contents      usageBody            `json:"contents"`
	Trash         trashBody            `json:"trash"`
	BytesSaved    int64                `json:"bytes_saved"`
	ByType        []typeBody           `json:"by_type"`
	BySize        []sizeBody           `json:"by_size"`
	Hours         []hourBody           `json:"hours"`
	UploadSlots   slotsBody            `json:"upload_slots"`
	Scrub         *scrubBody           `json:"scrub"`
	LastCheck     *string              `json:"last_check"`
	LastGC        *string              `json:"last_gc"`
	LastBackup    *string              `json:"last_backup"`
	Damaged       int                  `json:"damaged"`
	InDatabase    int                  `json:"database_faults"`
}

type (
	diskBody struct {
		Free    int64 `json:"free"`
		Total   int64 `json:"total"`
		Reserve int64 `json:"reserve"`
	}
	usageBody struct {
		Bytes int64 `json:"bytes"`
		Files int64 `json:"files"`
	}
	trashBody struct {
		usageBody
		NextExpiry  *string `json:"next_expiry"`
		KeepSeconds int64   `json:"keep_seconds"`
	}
	typeBody struct {
		Type string `json:"mime_type"`
		usageBody
	}
	sizeBody struct {
		UpTo int64 `json:"up_to"`
		usageBody
	}
	hourBody struct {
		Start         time.Time `json:"start"`
		Uploads       int64     `json:"uploads"`
		UploadBytes   int64     `json:"upload_bytes"`
		Downloads     int64     `json:"downloads"`
		DownloadBytes int64     `json:"download_bytes"`
	}
	slotsBody struct {
		InUse int `json:"in_use"`
		Max   int `json:"max"`
	}
	scrubBody struct {
		Progress      float64 `json:"progress"`
		PeriodSeconds int64   `json:"period_seconds"`
		Found         int64   `json:"found"`
		Unreadable    int64   `json:"unreadable,omitempty"`
		Last          *string `json:"last"`
	}
)

func (s *Service) scrubStats() *scrubBody {
	if s.scrub == nil {
		return nil
	}
	status := s.scrub.Status()
	return &scrubBody{status.Progress, int64(s.ScrubPeriod.Seconds()), status.Damaged, status.Unreadable, api.OptionalTime(status.LastPass)}
}

// byType returns the usage by type, those with the most bytes first.
func byType(types map[string]store.Usage) []typeBody {
	list := []typeBody{}
	for name, usage := range types {
		list = append(list, typeBody{name, usageBody(usage)})
	}
	slices.SortFunc(list, func(a, b typeBody) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Type, b.Type))
	})
	return list
}

// bySize returns the usage in size classes, each four times the one before, from 1 KB
// up to the largest file.
func bySize(classes [64]store.Usage) []sizeBody {
	list := []sizeBody{}
	var sum usageBody
	for class, usage := range classes {
		sum.Files += usage.Files
		sum.Bytes += usage.Bytes
		if class < 10 || class%2 != 0 {
			continue
		}
		list = append(list, sizeBody{1 << class, sum})
		sum = usageBody{}
	}
	for len(list) > 0 && list[len(list)-1].Files == 0 {
		list = list[:len(list)-1]
	}
	return list
}

// hours is a ring of counts of uploads and downloads in each of the last hours, in UTC.
type hours struct {
	mu   sync.Mutex
	ring [24]hourBody
}

func (h *hours) uploaded(now time.Time, bytes int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	hour := h.at(now)
	hour.Uploads++
	hour.UploadBytes += bytes
}

func (h *hours) downloaded(now time.Time, bytes int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	hour := h.at(now)
	hour.Downloads++
	hour.DownloadBytes += bytes
}

// at returns the counts of an hour, and resets those of an earlier day in its place.
func (h *hours) at(now time.Time) *hourBody {
	start := now.UTC().Truncate(time.Hour)
	hour := &h.ring[start.Hour()]
	if !hour.Start.Equal(start) {
		*hour = hourBody{Start: start}
	}
	return hour
}

// since lists the last 24 hours, the oldest first, but none before began.
func (h *hours) since(began, now time.Time) []hourBody {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := []hourBody{}
	first := began.UTC().Truncate(time.Hour)
	for ago := len(h.ring) - 1; ago >= 0; ago-- {
		start := now.Add(-time.Duration(ago) * time.Hour)
		if !start.UTC().Truncate(time.Hour).Before(first) {
			list = append(list, *h.at(start))
		}
	}
	return list
}

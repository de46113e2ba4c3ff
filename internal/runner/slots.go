package runner

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"time"
)

const (
	// firstDiskRate is what a disk is taken to write, in bytes/s, before one save was
	// measured: a SATA SSD's.
	firstDiskRate = 500e6
	// unknownTokenBytes is what a token is taken to need of a cache whose size is not
	// known: 8 billion parameters with 8 of 32 heads for keys, 32 layers, f16.
	unknownTokenBytes = 128 << 10
	saveTime          = 30 * time.Second // for all slots together
	restoreTime       = 30 * time.Second
)

// worthSaving says whether to write a slot's cache to the disk and read it back is
// quicker than to read its prompt again: 2 × bytes / diskRate < tokens /
// promptRate. Rates are per second; a prompt rate that is not known (0) is taken for
// slow. Pure.
func worthSaving(tokens int, promptRate float64, bytes int64, diskRate float64) bool {
	if tokens <= 0 || diskRate <= 0 {
		return false
	}
	if promptRate <= 0 {
		return true
	}
	return 2*float64(bytes)/diskRate < float64(tokens)/promptRate
}

// slotName is the name of a slot's file: what it is of, the settings with which it
// can be read, the slot from 0.
var slotName = regexp.MustCompile(`^([0-9a-f]{16})-([0-9a-f]{16})-([0-9]{1,4})\.slot$`)

// slotStore keeps what the slots of an engine hold.
type slotStore struct {
	*Runner
	s *service
}

// keys are the first two parts of the names.
func (r slotStore) keys() (model, settings string) {
	short := func(v any) string {
		sum := sha256.Sum256(fmt.Append(nil, v))
		return hex.EncodeToString(sum[:8])
	}
	id := []any{r.cfg.Model.SHA256, r.cfg.Model.Path}
	var changed time.Time
	var size int64
	if info, err := os.Stat(r.cfg.Model.Path); err == nil {
		changed, size = info.ModTime(), info.Size()
	}
	c := r.cfg
	return short(id), short([]any{size, changed.UnixNano(), c.Slots, c.Window, c.Reserve, c.Engine.ID, c.Engine.Build, c.Engine.Flags.Version})
}

func (r slotStore) able() bool {
	return r.cfg.SlotDir != "" && r.cfg.Engine.Flags.Knows("--slot-save-path")
}

func makeFolder(dir string) error {
	if dir == "" {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("cannot make the folder for what slots hold: %w", err)
	}
	return nil
}

type slotFile struct {
	path            string
	model, settings string
	slot            int
	size            int64
	at              time.Time
}

// files are the files in the folder that are slots, the oldest first.
func (r slotStore) files() []slotFile {
	entries, err := os.ReadDir(r.cfg.SlotDir)
	if err != nil {
		return nil
	}
	var out []slotFile
	for _, e := range entries {
		m := slotName.FindStringSubmatch(e.Name())
		info, err := e.Info()
		if m == nil || err != nil || !info.Mode().IsRegular() {
			continue
		}
		slot, _ := strconv.Atoi(m[3])
		out = append(out, slotFile{path: filepath.Join(r.cfg.SlotDir, e.Name()), model: m[1], settings: m[2], slot: slot, size: info.Size(), at: info.ModTime()})
	}
	slices.SortFunc(out, func(a, b slotFile) int { return a.at.Compare(b.at) })
	return out
}

// bound deletes the oldest files until the others have room for more bytes.
func (r slotStore) bound(more int64) {
	files := r.files()
	sum := more
	for _, f := range files {
		sum += f.size
	}
	for _, f := range files {
		if sum <= r.cfg.SlotBytes {
			return
		}
		if os.Remove(f.path) == nil {
			sum -= f.size
		}
	}
}

type slotAnswer struct {
	Saved    int   `json:"n_saved"`
	Written  int64 `json:"n_written"`
	Restored int   `json:"n_restored"`
	Timings  struct {
		Save float64 `json:"save_ms"`
	} `json:"timings"`
}

func (r slotStore) action(ctx context.Context, slot int, action, file string) (slotAnswer, error) {
	var body any = map[string]any{}
	if file != "" {
		body = map[string]any{"filename": file}
	}
	var a slotAnswer
	status, b, err := r.s.call(ctx, http.MethodPost, fmt.Sprintf("/slots/%d?action=%s", slot, action), body, r.s.key)
	if err == nil && (status != http.StatusOK || json.Unmarshal(b, &a) != nil) {
		err = fmt.Errorf("HTTP %d: %.200q", status, b)
	}
	return a, err
}

// tokenBytes is what a token takes of the cache, as the log tells.
func (r slotStore) tokenBytes() int64 {
	m := r.Reserved()
	var kv int64
	for _, p := range m.Places {
		kv += p.KV.Bytes
	}
	if kv == 0 || m.Context == 0 {
		return unknownTokenBytes
	}
	return kv / int64(m.Context)
}

// save writes what idle slots hold where that is worth it. What fails is in
// the log, and lost.
func (r slotStore) save() {
	if !r.able() || r.s.child.gone() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), saveTime)
	defer cancel()
	lctx, stop := context.WithTimeout(ctx, r.cfg.Watch.Timeout)
	_, b, err := r.s.call(lctx, http.MethodGet, "/slots", nil, r.s.key)
	stop()
	list, ok := slotsOf(b)
	if err != nil || !ok {
		return
	}
	model, settings := r.keys()
	disk, each, rate := firstDiskRate, r.tokenBytes(), r.Info().PromptRate
	for _, v := range list {
		bytes := each * int64(v.Tokens)
		if v.busy() || !worthSaving(v.Tokens, rate, bytes, disk) || bytes > r.cfg.SlotBytes {
			continue
		}
		r.bound(bytes)
		name := fmt.Sprintf("%s-%s-%d.slot", model, settings, v.ID)
		a, err := r.action(ctx, v.ID, "save", name)
		path := filepath.Join(r.cfg.SlotDir, name)
		if err == nil {
			err = os.Chmod(path, 0o600)
		}
		if err != nil {
			os.Remove(path)
			r.log.note("monitor: what slot %d holds was not saved: %v", v.ID, err)
			if ctx.Err() != nil || r.s.child.gone() {
				return
			}
			continue
		}
		if a.Timings.Save > 0 && a.Written > 1<<20 { // less tells about the system's cache, not the disk
			disk = float64(a.Written) / a.Timings.Save * 1000
		}
		if a.Saved > 0 && a.Written > 0 {
			each = max(1, a.Written/int64(a.Saved))
		}
	}
	r.bound(0)
}

// empty takes the warm-up's prompt out of the slots, so that it is not taken
// for anybody's.
func (r slotStore) empty(ctx context.Context) {
	if !r.able() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, restoreTime)
	defer cancel()
	for _, id := range r.warmed() {
		if _, err := r.action(ctx, id, "erase", ""); err != nil {
			r.log.note("monitor: slot %d was not emptied after the warm-up: %v", id, err)
		}
	}
}

// restore gives slots back what they held, and deletes the files: those that
// were read, since they are out of date from now on, and those of the model that no
// engine with these settings can read.
func (r slotStore) restore(ctx context.Context) {
	if !r.able() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, restoreTime)
	defer cancel()
	model, settings := r.keys()
	var warm []int
	for _, f := range r.files() {
		if f.model != model {
			continue
		}
		if f.settings == settings && f.slot < r.cfg.Slots {
			a, err := r.action(ctx, f.slot, "restore", filepath.Base(f.path))
			switch {
			case err != nil:
				r.log.note("monitor: slot %d was not restored: %v", f.slot, err)
			case a.Restored > 0:
				warm = append(warm, f.slot)
			}
		}
		os.Remove(f.path)
	}
	slices.Sort(warm)
	r.mu.Lock()
	r.restored = warm
	r.mu.Unlock()
}

// warmed are the slots in which the warm-up left its prompt.
func (r slotStore) warmed() []int {
	switch {
	case r.cfg.WarmUp == WarmUpOff:
		return nil
	case r.cfg.WarmUp == WarmUpFull || r.cfg.WarmUp == WarmUpAuto && r.gpu():
		all := make([]int, r.cfg.Slots)
		for i := range all {
			all[i] = i
		}
		return all
	}
	return []int{0}
}

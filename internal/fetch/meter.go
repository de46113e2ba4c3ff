package fetch

import "time"

// reportEvery is how often progress is told; windowed speed uses the samples
// of the last speedWindow.
const (
	reportEvery = 150 * time.Millisecond
	speedWindow = 5 * time.Second
)

// meter turns byte counts into progress reports. A nil meter is silent.
type meter struct {
	file   string
	report func(Progress)
	total  int64
	last   time.Time
	marks  []mark
}

type mark struct {
	at time.Time
	n  int64
}

func newMeter(file string, report func(Progress)) *meter {
	if report == nil {
		return nil
	}
	return &meter{file: file, report: report}
}

// start begins a stretch at n bytes: what was there before is not speed.
func (m *meter) start(n, total int64) {
	if m == nil {
		return
	}
	m.total = max(total, 0)
	m.marks = append(m.marks[:0], mark{time.Now(), n})
}

func (m *meter) at(n int64) {
	if m == nil {
		return
	}
	now := time.Now()
	if now.Sub(m.last) < reportEvery {
		return
	}
	m.last = now
	m.marks = append(m.marks, mark{now, n})
	for len(m.marks) > 2 && now.Sub(m.marks[0].at) > speedWindow {
		m.marks = m.marks[1:]
	}
	m.report(m.progress(n))
}

func (m *meter) progress(n int64) Progress {
	p := Progress{File: m.file, Done: n, Total: m.total}
	if len(m.marks) > 1 {
		first, last := m.marks[0], m.marks[len(m.marks)-1]
		if d := last.at.Sub(first.at).Seconds(); d > 0 {
			p.BytesPerSecond = float64(last.n-first.n) / d
		}
	}
	if p.BytesPerSecond > 0 && p.Total > n {
		p.ETA = time.Duration(float64(p.Total-n) / p.BytesPerSecond * float64(time.Second))
	}
	return p
}

func (m *meter) waiting(why string) {
	if m == nil {
		return
	}
	p := Progress{File: m.file, Total: m.total, Waiting: why}
	if len(m.marks) > 0 {
		p.Done = m.marks[len(m.marks)-1].n
	}
	m.report(p)
}

func (m *meter) end(n int64) {
	if m == nil {
		return
	}
	m.total = n
	m.report(m.progress(n))
}

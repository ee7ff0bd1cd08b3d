-- The clinic's own database, as its back office made it: nothing in it knows of Syncline.
-- Keys are TEXT, so that a nurse without a signal can make one that nobody else has.

CREATE TABLE nurses (
    id       TEXT PRIMARY KEY,
    name     TEXT NOT NULL,
    phone    TEXT NOT NULL,
    language TEXT NOT NULL
);

CREATE TABLE facilities (
    id     TEXT PRIMARY KEY,
    kind   TEXT NOT NULL CHECK (kind IN ('pharmacy', 'clinic', 'hospital')),
    name   TEXT NOT NULL,
    street TEXT NOT NULL,
    phone  TEXT NOT NULL
);

CREATE TABLE patients (
    id          TEXT PRIMARY KEY,
    name        TEXT NOT NULL,
    born_on     TEXT NOT NULL,
    ssn         TEXT NOT NULL UNIQUE,
    street      TEXT NOT NULL,
    phone       TEXT NOT NULL,
    language    TEXT NOT NULL,
    facility_id TEXT REFERENCES facilities (id),
    remarks     TEXT
);
CREATE INDEX patients_facility ON patients (facility_id);

CREATE TABLE assignments (
    id         TEXT PRIMARY KEY,
    nurse_id   TEXT NOT NULL REFERENCES nurses (id),
    patient_id TEXT NOT NULL REFERENCES patients (id),
    started_at TEXT NOT NULL,
    ended_at   TEXT
);
CREATE INDEX assignments_nurse ON assignments (nurse_id, ended_at);
CREATE INDEX assignments_patient ON assignments (patient_id);
CREATE UNIQUE INDEX assignments_once ON assignments (nurse_id, patient_id) WHERE ended_at IS NULL;

CREATE TABLE visits (
    id         TEXT PRIMARY KEY,
    patient_id TEXT NOT NULL REFERENCES patients (id),
    nurse_id   TEXT NOT NULL REFERENCES nurses (id),
    planned_at TEXT NOT NULL,
    minutes    INTEGER NOT NULL DEFAULT 30,
    status     TEXT NOT NULL DEFAULT 'planned'
               CHECK (status IN ('planned', 'on_the_way', 'done', 'missed', 'cancelled')),
    kilometres INTEGER NOT NULL DEFAULT 0,
    summary    TEXT,
    updated_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
);
CREATE INDEX visits_patient ON visits (patient_id);
CREATE INDEX visits_nurse ON visits (nurse_id, planned_at);

CREATE TABLE notes (
    id         TEXT PRIMARY KEY,
    visit_id   TEXT NOT NULL REFERENCES visits (id) ON DELETE CASCADE,
    author     TEXT NOT NULL,
    text       TEXT NOT NULL,
    written_at TEXT NOT NULL
);
CREATE INDEX notes_visit ON notes (visit_id);

CREATE TABLE medications (
    id        TEXT PRIMARY KEY,
    substance TEXT NOT NULL,
    strength  TEXT NOT NULL,
    form      TEXT NOT NULL,
    advice    TEXT
);

CREATE TABLE prescriptions (
    id            TEXT PRIMARY KEY,
    patient_id    TEXT NOT NULL REFERENCES patients (id) ON DELETE CASCADE,
    medication_id TEXT NOT NULL REFERENCES medications (id),
    dose          TEXT NOT NULL,
    since         TEXT NOT NULL,
    until         TEXT
);
CREATE INDEX prescriptions_patient ON prescriptions (patient_id);
CREATE INDEX prescriptions_medication ON prescriptions (medication_id);

-- A trigger that the clinic always had. What it writes reaches the devices like anybody else's change.
CREATE TRIGGER visits_updated
AFTER UPDATE OF patient_id, nurse_id, planned_at, minutes, status, kilometres, summary ON visits
BEGIN
    UPDATE visits SET updated_at = CURRENT_TIMESTAMP WHERE id = NEW.id;
END;

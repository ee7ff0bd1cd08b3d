-- The company's database: lifts, who inspects them, and what was found.
CREATE TABLE lifts (
    id TEXT PRIMARY KEY,
    address TEXT NOT NULL
);
CREATE TABLE rounds (
    inspector TEXT NOT NULL,
    lift_id TEXT NOT NULL REFERENCES lifts (id),
    PRIMARY KEY (inspector, lift_id)
);
CREATE TABLE inspections (
    id TEXT PRIMARY KEY,
    lift_id TEXT NOT NULL REFERENCES lifts (id),
    due TEXT NOT NULL,
    result TEXT CHECK (result IN ('safe', 'closed')),
    remark TEXT,
    minutes INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX inspections_of_a_lift ON inspections (lift_id);

INSERT INTO lifts VALUES ('mill', 'Mill Lane 1'), ('station', 'Station Road 7'), ('tower', 'Tower Square 3');
INSERT INTO rounds VALUES ('ann', 'mill'), ('ann', 'station'), ('ben', 'station'), ('ben', 'tower');
INSERT INTO inspections (id, lift_id, due)
VALUES ('i-mill', 'mill', '2027-01-11'), ('i-station', 'station', '2027-01-12'), ('i-tower', 'tower', '2027-01-13');

"""The Patient IDs and names that identify nobody; the configuration loads this module alone."""

PLACEHOLDERS = (  # "0" stands for any number of zeros; an empty Patient ID is always a placeholder.
    *("0", "W/I", "UNKNOWN", "UNKNOWN ID", "NONE", "NULL", "NA", "N/A", "NO ID", "NOID", "ANON", "ANONYMOUS"),
    *("-", "."),
)

# Words that people write if a name is unknown, or for newborns: a name of such words alone may be anybody's.
NAME_PLACEHOLDERS = (
    *("UNKNOWN", "UNK", "UNIDENTIFIED", "UNNAMED", "ANON", "ANONYMOUS", "ANONYMIZED"),
    *("ANONYMISED", "NN", "NAME", "NONAME", "PATIENT", "PERSON", "TRAUMA", "EMERGENCY", "MALE"),
    *("FEMALE", "MAN", "WOMAN", "BABY", "BOY", "GIRL", "NEWBORN", "INFANT", "CHILD", "TWIN", "OF"),
    *("DESCONOCIDO", "DESCONOCIDA", "ANONIMO", "ANONIMA", "PACIENTE", "INCONNU", "INCONNUE"),
    *("ANONYME", "UNBEKANNT", "ANONYM", "ANONYMISIERT", "PATIENTIN", "SCONOSCIUTO", "SCONOSCIUTA"),
    *("IGNOTO", "IGNOTA", "ONBEKEND", "ANONIEM", "OKÄND", "UKENDT", "UKJENT", "NIEZNANY"),
    *("NIEZNANA", "TIDAK", "DIKENAL", "BAYI", "НЕИЗВЕСТНО", "НЕИЗВЕСТНЫЙ", "НЕИЗВЕСТНАЯ", "不明"),
    *("氏名不明", "未知", "无名氏", "佚名"),
)

-- That nobody asked for an instance, or gets it, is told by a code; the word of its reason was read before.
UPDATE instance SET code = 'unclaimed' WHERE reason = 'unclaimed' AND code IS NULL;

CREATE TABLE kinds(id int primary key, b bool, i2 int2, i4 int4, i8 int8, f4 real, f8 float8, n numeric(12,4), nn numeric, t text, vc varchar(10), c char(5), d date, ts timestamp, tz timestamptz, tm time, iv interval, j json, jb jsonb, u uuid, bin bytea, ia int[], ta text[]);
INSERT INTO kinds VALUES
(1,true,1,10,100,1.5,2.25,12.3400,1.50,'Alpha','abc','ab','2024-02-29','2024-02-29 13:14:15.120','2024-02-29 13:14:15+00','01:02:03.5','1 day 02:00:00','{"a": 1, "b": {"c": "x"}, "l": [1,2]}','{"a": 1, "b": {"c": "x"}, "l": [1, 2]}','11111111-2222-3333-4444-555555555555','\x00ff','{1,2,3}','{a,"b c",NULL}'),
(2,false,-2,-7,9007199254740993,-0.1,1e20,-0.5000,123456789.123456789,'beta','Z','x','1999-12-31','1999-12-31 23:59:59','1999-12-31 23:59:59+00','23:59:59','-3 mons','{}','{}','aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee','\x','{}','{}'),
(3,null,null,null,null,null,null,null,null,null,null,null,null,null,null,null,null,null,null,null,null,null,null),
(4,true,7,3,2,3.0,0.1,100.0000,0,'Éclair','','','2000-01-01','2000-01-01 00:00:00','2000-01-01 00:00:00.5+00','00:00:00','00:00:01.5','[1,"two",null]','[1, "two", null]','00000000-0000-0000-0000-000000000000','\x6162','{NULL,5}','{""}');

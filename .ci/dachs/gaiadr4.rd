<resource schema="gaiadr4" resdir="gaiadr4">
  <meta name="title">Made-up tables as a draft of Gaia DR4 has them</meta>
  <meta name="creationDate">2026-11-29T00:00:00Z</meta>
  <meta name="description">Random rows under the table and column names of ESA's draft of the data
    model of Gaia DR4, made for the tests of gaia_redshift. Nothing in here was measured.</meta>
  <meta name="subject">galaxies</meta>
  <meta name="creator">The gaia_redshift developers</meta>

  <STREAM id="load">
    <data id="import_\table">
      <sources>data/\table.csv</sources>
      <csvGrammar/>
      <make table="\table">
        <rowmaker idmaps="*">
          <apply name="clear_empty">
            <code>
              for name, value in list(vars.items()):
                if value == "":
                  vars[name] = None
            </code>
          </apply>
        </rowmaker>
      </make>
    </data>
  </STREAM>
  <STREAM id="identifier">
    <column name="source_id" type="bigint" required="True" ucd="meta.id;meta.main"
      description="Source identifier"/>
  </STREAM>

  <table id="all_source_flags" onDisk="True" adql="True" primary="source_id">
    <meta name="description">Which products exist</meta>
    <FEED source="identifier"/>
    <column name="has_xp" type="boolean" required="True" ucd="meta.code"
      description="A mean BP/RP spectrum is published"/>
  </table>
  <FEED source="load" table="all_source_flags"/>

  <table id="all_source_astrometry" onDisk="True" adql="True" mixin="//scs#q3cindex"
    primary="source_id">
    <meta name="description">Positions of all sources</meta>
    <FEED source="identifier"/>
    <column name="ra" type="double precision" unit="deg" ucd="pos.eq.ra;meta.main"
      description="Right ascension (ICRS)"/>
    <column name="dec" type="double precision" unit="deg" ucd="pos.eq.dec;meta.main"
      description="Declination (ICRS)"/>
  </table>
  <FEED source="load" table="all_source_astrometry"/>

  <table id="all_source_photometry" onDisk="True" adql="True" primary="source_id">
    <meta name="description">Magnitudes of all sources</meta>
    <FEED source="identifier"/>
    <column name="phot_g_mean_mag" unit="mag" ucd="phot.mag;em.opt"
      description="G-band mean magnitude"/>
    <column name="phot_bp_mean_mag" unit="mag" ucd="phot.mag;em.opt.B"
      description="BP mean magnitude"/>
    <column name="phot_rp_mean_mag" unit="mag" ucd="phot.mag;em.opt.R"
      description="RP mean magnitude"/>
  </table>
  <FEED source="load" table="all_source_photometry"/>

  <table id="dr3_neighbourhood" onDisk="True" adql="True">
    <meta name="description">Sources of DR3 near those of this release</meta>
    <FEED source="identifier"/>
    <column name="dr3_source_id" type="bigint" required="True" ucd="meta.id.cross"
      description="Source identifier in DR3"/>
    <column name="angular_distance" unit="mas" ucd="pos.angDistance"
      description="Distance of the two"/>
    <column name="probable_match" type="boolean" required="True" ucd="meta.code"
      description="Whether they are likely the same"/>
    <index columns="dr3_source_id"/>
  </table>
  <FEED source="load" table="dr3_neighbourhood"/>
</resource>
